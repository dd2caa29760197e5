package journal

import (
	"bytes"
	"io"
)

// scanner cuts a file into lines, in bounded memory.
type scanner struct {
	r        io.Reader
	buf      []byte
	from, to int   // buf[from:to] is read and not given out
	offset   int64 // of buf[from] in the file
	eof      bool
}

// chunk is one line of a file, or what stands in its place.
type chunk struct {
	line   []byte // without its end; valid until the next call; empty if long
	offset int64
	size   int64 // with its end
	ended  bool  // by a newline: the last line of a file may not be
	long   bool  // longer than maxLine
}

// next returns the next line, or io.EOF.
func (s *scanner) next() (chunk, error) {
	searched := 0
	for {
		if i := bytes.IndexByte(s.buf[s.from+searched:s.to], '\n'); i >= 0 {
			return s.give(searched+i, true), nil
		}
		searched = s.to - s.from
		switch {
		case searched > maxLine:
			return s.skip()
		case s.eof && searched == 0:
			return chunk{}, io.EOF
		case s.eof:
			return s.give(searched, false), nil
		}
		if err := s.fill(); err != nil {
			return chunk{}, err
		}
	}
}

// give hands out the next n bytes, and the newline after them.
func (s *scanner) give(n int, ended bool) chunk {
	c := chunk{line: s.buf[s.from : s.from+n], offset: s.offset, size: int64(n), ended: ended}
	if ended {
		c.size++
	}
	if n > maxLine {
		c.line, c.long = nil, true
	}
	s.from += int(c.size)
	s.offset += c.size
	return c
}

// skip passes over a line that is too long.
func (s *scanner) skip() (chunk, error) {
	c := chunk{offset: s.offset, long: true}
	for {
		n := s.to - s.from
		if i := bytes.IndexByte(s.buf[s.from:s.to], '\n'); i >= 0 {
			n, c.ended = i+1, true
		}
		s.from += n
		s.offset += int64(n)
		c.size += int64(n)
		if c.ended || s.eof {
			return c, nil
		}
		if err := s.fill(); err != nil {
			return chunk{}, err
		}
	}
}

// fill reads more behind what is there.
func (s *scanner) fill() error {
	if s.from > 0 {
		s.to = copy(s.buf, s.buf[s.from:s.to])
		s.from = 0
	}
	if s.to == len(s.buf) {
		s.buf = append(s.buf, make([]byte, max(len(s.buf), 1<<16))...)
	}
	n, err := s.r.Read(s.buf[s.to:])
	s.to += n
	if err == io.EOF {
		s.eof, err = true, nil
	}
	return err
}

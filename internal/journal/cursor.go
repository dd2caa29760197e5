package journal

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// cursor reads a line of which the form is known. Once something is not as expected, ok is false for good, and what the
// line means is for encoding/json to say.
type cursor struct {
	rest  []byte
	ok    bool
	words map[string]string // texts that come again and again; nil keeps none
}

// most is how many words are kept.
const mostWords = 4096

func (c *cursor) literal(s string) {
	c.ok = c.next(s) && c.ok
}

// next reads s, if it is there.
func (c *cursor) next(s string) bool {
	if len(c.rest) < len(s) || string(c.rest[:len(s)]) != s {
		return false
	}
	c.rest = c.rest[len(s):]
	return true
}

// number reads an unsigned decimal number as JSON has it.
func (c *cursor) number() uint64 {
	var n uint64
	i := 0
	for ; i < len(c.rest) && i < 19 && c.rest[i]-'0' < 10; i++ {
		n = n*10 + uint64(c.rest[i]-'0')
	}
	// 19 digits always fit.
	if i == 0 || i > 1 && c.rest[0] == '0' || i < len(c.rest) && c.rest[i]-'0' < 10 {
		c.ok = false
	}
	c.rest = c.rest[i:]
	return n
}

// signed is number for what is an int64 and not negative.
func (c *cursor) signed() int64 {
	n := c.number()
	c.ok = c.ok && n < 1<<63
	return int64(n)
}

func (c *cursor) bool() bool {
	if c.next("true") {
		return true
	}
	c.literal("false")
	return false
}

// float reads a number in the form of strconv and encoding/json.
func (c *cursor) float() float64 {
	i := 0
	for ; i < len(c.rest) && (c.rest[i]-'0' < 10 || c.rest[i] == '.'); i++ {
	}
	text := c.rest[:i]
	c.rest = c.rest[i:]
	if i == 0 || i > 1 && text[0] == '0' && text[1] != '.' || text[0] == '.' || text[i-1] == '.' {
		c.ok = false
		return 0
	}
	f, err := strconv.ParseFloat(string(text), 64)
	c.ok = c.ok && err == nil
	return f
}

// text reads a string without escapes, up to and with its closing quote.
func (c *cursor) text() []byte {
	ascii := true
	for i, b := range c.rest {
		switch {
		case b == '"':
			text := c.rest[:i]
			c.rest = c.rest[i+1:]
			c.ok = c.ok && (ascii || utf8.Valid(text))
			return text
		case b == '\\' || b < ' ':
			c.ok = false
			return nil
		case b >= utf8.RuneSelf:
			ascii = false
		}
	}
	c.ok = false
	return nil
}

// word reads a string that will come again.
func (c *cursor) word() string {
	b := c.text()
	if w, ok := c.words[string(b)]; ok {
		return w
	}
	w := string(b)
	if c.words != nil && len(c.words) < mostWords {
		c.words[w] = w
	}
	return w
}

// digits reads n decimal digits.
func (c *cursor) digits(n int) int {
	if len(c.rest) < n {
		c.ok = false
		return 0
	}
	v := 0
	for _, b := range c.rest[:n] {
		c.ok = c.ok && b-'0' < 10
		v = v*10 + int(b-'0')
	}
	c.rest = c.rest[n:]
	return v
}

// time reads 2006-01-02T15:04:05.999999999Z.
func (c *cursor) time() time.Time {
	year := c.digits(4)
	c.literal("-")
	month := c.digits(2)
	c.literal("-")
	day := c.digits(2)
	c.literal("T")
	hour := c.digits(2)
	c.literal(":")
	minute := c.digits(2)
	c.literal(":")
	second := c.digits(2)
	nano := 0
	if c.next(".") {
		i, unit := 0, 100_000_000
		for ; i < len(c.rest) && unit > 0 && c.rest[i]-'0' < 10; i++ {
			nano += int(c.rest[i]-'0') * unit
			unit /= 10
		}
		c.ok = c.ok && i > 0
		c.rest = c.rest[i:]
	}
	c.literal("Z")
	if !c.ok || month < 1 || month > 12 || hour > 23 || minute > 59 || second > 59 {
		c.ok = false
		return time.Time{}
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, nano, time.UTC)
	c.ok = t.Day() == day // not the 31st of a month that has 30
	return t
}

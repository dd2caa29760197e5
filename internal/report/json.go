package report

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// WriteJSON writes the report as one JSON object. What a terminal could take for a command is escaped.
func (r *Report) WriteJSON(w io.Writer) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(escapeJSON(text), '\n'))
	return err
}

// escapeJSON escapes what cannot be seen. Outside of strings JSON has none of it but the spaces and newlines.
func escapeJSON(text []byte) []byte {
	hidden := func(r rune) bool { return r > 0x7e && !strconv.IsPrint(r) }
	if !bytes.ContainsFunc(text, hidden) {
		return text
	}
	var out []byte
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if hidden(r) {
			for _, u := range utf16.Encode([]rune{r}) {
				const hex = "0123456789abcdef"
				out = append(out, '\\', 'u', hex[u>>12], hex[u>>8&15], hex[u>>4&15], hex[u&15])
			}
		} else {
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	return out
}

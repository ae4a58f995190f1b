package reading

import (
	"bytes"
	"mime"
	"strings"
)

const (
	// Bytes of an answer that are kept until its end, to be read then. A longer one tells nothing.
	answerBytesMax = 16 * 1024 * 1024
	// Bytes of one event of a stream. A longer one tells nothing; the next one may.
	eventBytesMax = 1024 * 1024
)

// Response reads what was used from a response's body as it passes by: write it in whatever pieces, then ask.
type Response struct {
	isStream bool
	teller   Teller
	// The answer so far; or the line of a stream so far, and the data of its event.
	kept, data []byte
	// Whether what is kept has grown too long, so that it is passed over.
	over bool
	// Whether the last line ended with a CR, to which an LF may belong.
	afterCR bool
}

// NewResponse reads a body of this content type.
func NewResponse(contentType string) *Response {
	kind, _, _ := mime.ParseMediaType(contentType)
	return &Response{isStream: strings.EqualFold(kind, "text/event-stream")}
}

// Write takes the next piece. It never fails.
func (r *Response) Write(piece []byte) (int, error) {
	written := len(piece)
	if !r.isStream {
		r.keep(piece, answerBytesMax)
		return written, nil
	}
	if r.afterCR && len(piece) > 0 {
		r.afterCR = false
		piece = bytes.TrimPrefix(piece, []byte("\n"))
	}
	for len(piece) > 0 {
		end := bytes.IndexAny(piece, "\r\n")
		if end < 0 {
			r.keep(piece, eventBytesMax)
			break
		}
		r.keep(piece[:end], eventBytesMax)
		r.line()
		isCR := piece[end] == '\r'
		piece = piece[end+1:]
		if isCR && len(piece) == 0 {
			r.afterCR = true
		} else if isCR {
			piece = bytes.TrimPrefix(piece, []byte("\n"))
		}
	}
	return written, nil
}

// Used is what has been told by now; of an answer that is no stream, that is everything at its end and nothing before.
func (r *Response) Used() Used {
	if !r.isStream && !r.over {
		r.teller.Hear(r.kept)
	}
	return r.teller.Used()
}

func (r *Response) keep(piece []byte, most int) {
	// What does not begin as an object is no answer that tells anything: a download, for example.
	isAnswer := r.isStream || len(r.kept) > 0 || bytes.HasPrefix(bytes.TrimLeft(piece, " \t\r\n"), []byte("{"))
	if r.over || !isAnswer && len(bytes.TrimSpace(piece)) > 0 || len(r.kept)+len(piece) > most {
		r.kept, r.over = nil, true
		return
	}
	r.kept = append(r.kept, piece...)
}

// A line is whole. An empty one ends its event.
func (r *Response) line() {
	line := r.kept
	if r.over || len(r.data)+len(line) > eventBytesMax {
		r.data, line = r.data[:0], []byte(":")
	}
	r.over = false
	if rest, isData := bytes.CutPrefix(line, []byte("data:")); isData {
		r.data = append(append(r.data, bytes.TrimPrefix(rest, []byte(" "))...), '\n')
	} else if len(line) == 0 {
		r.teller.Hear(r.data)
		r.data = r.data[:0]
	}
	r.kept = r.kept[:0]
}

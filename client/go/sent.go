package permitd

import (
	"bytes"
	"io"
	"net/http"
	"strings"
)

// Bytes of a request's body that are kept, to be read and to be sent again. A longer one is sent once, and nothing is estimated of it.
const requestBytesMax = 32 * 1024 * 1024

// sentBody is a request's body as it is to be sent, perhaps several times.
type sentBody struct {
	text []byte
	// Whether the text is all of it. If not, the rest is what follows, and there is only one try.
	isWhole bool
	rest    io.ReadCloser
}

// Reads the body of a request, within bounds. A stream that nobody knows the length of is read only if it is JSON.
func readBody(request *http.Request) (*sentBody, error) {
	if request.Body == nil || request.Body == http.NoBody {
		return &sentBody{isWhole: true}, nil
	}
	isJSON := strings.Contains(request.Header.Get("Content-Type"), "json")
	if request.ContentLength > requestBytesMax || request.ContentLength < 0 && !isJSON {
		return &sentBody{rest: request.Body}, nil
	}
	text, err := io.ReadAll(io.LimitReader(request.Body, requestBytesMax+1))
	if err != nil {
		_ = request.Body.Close()
		return nil, err
	}
	if len(text) > requestBytesMax {
		whole := &joined{Reader: io.MultiReader(bytes.NewReader(text), request.Body), Closer: request.Body}
		return &sentBody{rest: whole}, nil
	}
	return &sentBody{text: text, isWhole: true}, request.Body.Close()
}

// The request to be sent: the caller's own stays as it is.
func (b *sentBody) request(original *http.Request) *http.Request {
	request := original.Clone(original.Context())
	switch {
	case !b.isWhole:
		request.Body = b.rest
	case b.text != nil:
		request.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.text)), nil }
		request.Body, _ = request.GetBody()
		request.ContentLength = int64(len(b.text))
	}
	return request
}

func (b *sentBody) close() {
	if b.rest != nil {
		_ = b.rest.Close()
	}
}

// joined is read in one place and closed in another.
type joined struct {
	io.Reader
	io.Closer
}

// failing gives an error that came before.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

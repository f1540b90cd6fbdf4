// SPDX-License-Identifier: GPL-3.0-or-later

package api

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/hyperiondb/hyperion-vault/envelope/erase"
)

const (
	// maxBody is room for the longest value with every byte of it escaped (\u0001), and
	// the other fields.
	maxBody = 4 << 20

	// smallBody is what is read before anything is asked.
	smallBody = 4 << 10
)

var errCrowded = &problem{http.StatusServiceUnavailable, "busy", "this node is reading as many large bodies as it may; try again in a moment"}

// isJSON says whether a body is, by its headers, JSON in UTF-8, as it is.
func isJSON(header http.Header) bool {
	sent := header.Values("Content-Type")
	if len(sent) != 1 || strings.Join(header.Values("Content-Encoding"), "") != "" {
		return false
	}
	kind, params, err := mime.ParseMediaType(sent[0])
	charset := params["charset"]
	return err == nil && kind == "application/json" && (charset == "" || strings.EqualFold(charset, "utf-8"))
}

// readBody reads all of a body into memory that the caller zeroes, and that grows
// with what has come. Of what is larger than smallBody all that is announced counts from
// then on, to the end of the request: its values live as long.
func (h *Handler) readBody(r *request) ([]byte, error) {
	if r.ContentLength > maxBody {
		return nil, tooLarge(r.Request)
	}
	body, ended, err := readInto(make([]byte, 0, smallBody+1), r.Body)
	if err != nil || ended {
		return body, err
	}
	most := maxBody
	if r.ContentLength >= 0 {
		most = int(r.ContentLength)
	}
	r.body = hold{of: h.bodies, access: r.access}
	if !r.body.resize(perBody*most) && !r.body.wait(r.Context(), perBody*most) {
		return body, errCrowded
	}
	for {
		grown := append(make([]byte, 0, min(2*cap(body), most+1)), body...)
		erase.Zero(body)
		body, ended, err = readInto(grown, r.Body)
		switch {
		case err != nil:
			return body, err
		case ended:
			r.body.resize(perBody * len(body)) // fewer than chunks may have
			return body, nil
		case len(body) > most:
			return body, tooLarge(r.Request)
		}
	}
}

// readInto fills a buffer. ended: there is no more.
func readInto(into []byte, body io.Reader) (read []byte, ended bool, err error) {
	for len(into) < cap(into) {
		n, err := body.Read(into[len(into):cap(into)])
		into = into[:len(into)+n]
		switch {
		case errors.Is(err, io.EOF):
			return into, true, nil
		case err != nil:
			return into, false, bad("the body could not be read to its end")
		}
	}
	return into, false, nil
}

// tooLarge takes a little more of what is on its way, or a client that has not sent it
// all would hear that the connection broke instead of why.
func tooLarge(r *http.Request) error {
	_ = drain(r.Body, maxBody) // the answer is the same
	return &problem{http.StatusRequestEntityTooLarge, "too_large", "the body is larger than 4 MiB"}
}

// drain reads what is left of a body, in pieces that it erases, but not more than most;
// false: there may be more.
func drain(r io.Reader, most int) bool {
	var piece [4 << 10]byte
	for n := 0; n < most; {
		got, err := r.Read(piece[:])
		erase.Zero(piece[:])
		if err != nil {
			return errors.Is(err, io.EOF)
		}
		n += got
	}
	return false
}

package server

import (
	"errors"
	"io"
	"mime"
	"net/http"
)

// Media types of RFC 3161, section 3.4.
const (
	timestampQuery = "application/timestamp-query"
	timestampReply = "application/timestamp-reply"
)

// Bounds of time-stamping over HTTPS. A request is an imprint, a policy and a nonce: some hundred bytes.
const (
	maxTimestampQuery = 16 << 10
	tsaRequests       = 16 // at the same time; more are told to come back
)

// serveTSA adds the time-stamping authority over HTTP (RFC 3161, section 3.4), where it is open to everybody.
func (s *Server) serveTSA(mux *http.ServeMux) {
	if !s.config.Timestamp.Web {
		return
	}
	room := make(chan struct{}, tsaRequests)
	mux.HandleFunc("POST /tsa", func(w http.ResponseWriter, r *http.Request) {
		select {
		case room <- struct{}{}:
			defer func() { <-room }()
		default:
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many requests at once; try again in a second", http.StatusServiceUnavailable)
			return
		}
		s.webTimestamp(w, r)
	})
}

// webTimestamp answers a TimeStampReq. A request that cannot be granted is refused in a TimeStampResp, with status 200, as the RFC has it; what is
// no request at all gets a status of HTTP.
func (s *Server) webTimestamp(w http.ResponseWriter, r *http.Request) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != timestampQuery {
		http.Error(w, "send a TimeStampReq (RFC 3161) as "+timestampQuery, http.StatusUnsupportedMediaType)
		return
	}
	query, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxTimestampQuery))
	if err != nil {
		code := http.StatusBadRequest
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			code = http.StatusRequestEntityTooLarge
		}
		http.Error(w, "the request was not read: "+err.Error(), code)
		return
	}
	reply, err := s.tsa.Load().Respond(r.Context(), query)
	if err != nil {
		s.log.ErrorContext(r.Context(), "a time-stamp was refused", "error", err)
	}
	w.Header().Set("Content-Type", timestampReply)
	w.Header().Set("Cache-Control", "no-store")
	s.webWrite(w, r, reply)
}

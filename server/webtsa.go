package server

import (
	"io"
	"mime"
	"net/http"
)

// Media types of RFC 3161, section 3.4.
const (
	timestampQuery = "application/timestamp-query"
	timestampReply = "application/timestamp-reply"
)

// maxTimestampQuery bounds a request over HTTPS, which is an imprint, a policy and a nonce: some hundred bytes.
const maxTimestampQuery = 16 << 10

// serveTSA adds the time-stamping authority over HTTP (RFC 3161, section 3.4), where it is open to everybody. Callers take turns with everybody
// who reads the ledger over the same listener.
func (s *Server) serveTSA(mux *http.ServeMux) {
	if s.config.Timestamp.Web {
		mux.HandleFunc("POST /tsa", s.webTimestamp)
	}
}

// webTimestamp answers a TimeStampReq. A request that cannot be granted is refused in a TimeStampResp, with status 200, as the RFC has it; what is
// no request at all gets a status of HTTP.
func (s *Server) webTimestamp(w http.ResponseWriter, r *http.Request) {
	if kind := r.Header.Get("Content-Type"); kind != timestampQuery && !isMediaType(kind, timestampQuery) {
		http.Error(w, "send a TimeStampReq (RFC 3161) as "+timestampQuery, http.StatusUnsupportedMediaType)
		return
	}
	query, err := readQuery(r)
	switch {
	case err != nil:
		http.Error(w, "the request was not read: "+err.Error(), http.StatusBadRequest)
		return
	case len(query) > maxTimestampQuery:
		http.Error(w, "a TimeStampReq has some hundred bytes: send a digest, not the data", http.StatusRequestEntityTooLarge)
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

// readQuery reads a request, and one byte more than the bound of one that is too large.
func readQuery(r *http.Request) ([]byte, error) {
	if n := r.ContentLength; n >= 0 && n <= maxTimestampQuery {
		query := make([]byte, n)
		_, err := io.ReadFull(r.Body, query)
		return query, err
	}
	return io.ReadAll(io.LimitReader(r.Body, maxTimestampQuery+1))
}

func isMediaType(header, want string) bool {
	kind, _, err := mime.ParseMediaType(header)
	return err == nil && kind == want
}

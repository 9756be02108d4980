package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Media types of RFC 2585, section 4.
const (
	mediaCertificate    = "application/pkix-cert"
	mediaRevocationList = "application/pkix-crl"
)

// maxListAge is how long a revocation list may be kept without asking again.
const maxListAge = time.Hour

// serveCA adds the certificates and revocation lists of the CA (RFC 5280), for everybody: /ca/ca.crt and /ca/crl of the CA that certifies now,
// /ca/<key id>.crt and .crl of every CA that there was.
func (s *Server) serveCA(mux *http.ServeMux) {
	mux.HandleFunc("GET /ca/{file}", s.webCA)
}

func (s *Server) webCA(w http.ResponseWriter, r *http.Request) {
	file := r.PathValue("file")
	all, _, _, err := s.authorities()
	if err != nil {
		s.webError(w, r, err)
		return
	}
	for _, a := range all {
		var body []byte
		age, kind, at := maxListAge, mediaRevocationList, a.row.ThisUpdate.Time()
		switch id, suffix, _ := strings.Cut(file, "."); {
		case file == "crl" && a.newest, id == a.KeyID && suffix == "crl":
			body, age = a.list, min(age, max(0, a.row.NextUpdate.Time().Sub(s.clock())))
		case file == "ca.crt" && a.newest, id == a.KeyID && suffix == "crt":
			body, kind, at = a.certificate.Raw, mediaCertificate, a.certificate.NotBefore
		}
		if body == nil {
			continue
		}
		digest := sha256.Sum256(body)
		h := w.Header()
		h.Set("Content-Type", kind)
		h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(age.Seconds())))
		h.Set("ETag", `"`+hex.EncodeToString(digest[:])+`"`)
		http.ServeContent(w, r, "", at, bytes.NewReader(body))
		return
	}
	s.webError(w, r, errCANotFound)
}

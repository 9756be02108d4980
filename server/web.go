package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signetd/signet/server/internal/identity"
)

// WebConfig is where the server answers plain HTTPS: a listener of its own, which never asks for a client certificate.
type WebConfig struct {
	Address     string `json:"address" doc:"host:port of a listener for HTTPS: the ledger's checkpoint and tiles (C2SP tlog-tiles) below /ledger/, time-stamps at /tsa, revocation lists and CA certificates below /ca/; empty: none"`
	Certificate string `json:"certificate" doc:"its certificate chain, PEM; empty: that of listen"`
	Key         string `json:"key" doc:"its private key, PEM, mode 0600; empty: that of listen"`
	PublicURL   string `json:"publicURL" doc:"its URL as others see it, http or https; certificates name the revocation list and the CA's certificate below it (/ca/); empty: they name none"`
}

func (c WebConfig) validate(bad func(key, format string, args ...any) error) error {
	if u, err := url.Parse(c.PublicURL); c.PublicURL != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil ||
		u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(c.PublicURL, "/") || u.String() != c.PublicURL || len(c.PublicURL) > 200) {
		return bad("web.publicURL", "%q; use an http or https URL without a slash at the end, such as https://sign.example, or leave it empty", c.PublicURL)
	}
	if c.Address == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		return bad("web.address", "%q; use host:port, or leave it empty", c.Address)
	}
	if (c.Certificate == "") != (c.Key == "") {
		return bad("web.certificate", "certificate and key belong together; name both or neither")
	}
	return nil
}

// webWrite bounds an answer of the HTTPS listener.
const webWrite = time.Minute

// webTurns bound the requests of a listener.
func webTurns(patience time.Duration) turnLimits {
	return turnLimits{running: 64, runningEach: 32, waiting: 1024, waitingEach: 256, patience: patience}
}

// webPatience is how long a request waits for its turn: somebody's program that is told to come back does so by itself.
const webPatience = 5 * time.Second

// openWeb opens the HTTPS listener, where one is configured.
func (s *Server) openWeb() error {
	c := s.config.Web
	if c.Address == "" {
		return nil
	}
	certificate, key := c.Certificate, c.Key
	if certificate == "" {
		certificate, key = s.config.Listen.Certificate, s.config.Listen.Key
	}
	pair, err := tls.LoadX509KeyPair(s.config.Path(certificate), s.config.Path(key))
	if err != nil {
		return fmt.Errorf("%w: web: %w", ErrConfig, err)
	}
	l, err := net.Listen("tcp", c.Address)
	if err != nil {
		return fmt.Errorf("web: %w; is another server running? change web.address", err)
	}
	s.webAddress = l.Addr().String()
	mux := http.NewServeMux()
	s.serveTiles(mux)
	s.serveTSA(mux)
	s.serveCA(mux)
	s.doors.listeners = append(s.doors.listeners, tls.NewListener(s.door(l, "https", s.network.web), &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"},
	}))
	s.doors.servers = append(s.doors.servers, &http.Server{
		Handler: s.webHandler(mux, webTurns(webPatience)), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: webWrite, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10, ConnState: doorState, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	})
	s.log.Info("web", "address", s.webAddress)
	return nil
}

// WebAddress is where the server answers HTTPS; empty where it does not.
func (s *Server) WebAddress() string { return s.webAddress }

// webHandler stands before every page: it recovers, says to browsers what they must not do, and lets requests in by turns.
func (s *Server) webHandler(next http.Handler, limits turnLimits) http.Handler {
	turns := newTurns(limits)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				s.log.ErrorContext(r.Context(), "panic", "path", r.URL.Path, "value", fmt.Sprint(p), "stack", string(debug.Stack()))
				http.Error(w, "internal error", http.StatusInternalServerError)
			}
		}()
		r, ok := s.sourced(w, r)
		if !ok {
			return
		}
		h := w.Header()
		for name, value := range protective {
			h[name] = value
		}
		leave, err := turns.take(r.Context(), webNeighbourhood(r))
		if err != nil {
			h.Set("Retry-After", "1")
			http.Error(w, errBusy.Error(), http.StatusServiceUnavailable)
			return
		}
		defer leave()
		r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
		next.ServeHTTP(w, r)
	})
}

// protective are the headers that say to browsers what they must not do. The values are shared by all answers.
var protective = map[string][]string{
	"X-Content-Type-Options":    {"nosniff"},
	"Content-Security-Policy":   {"default-src 'none'; frame-ancestors 'none'"},
	"Referrer-Policy":           {"no-referrer"},
	"Strict-Transport-Security": {"max-age=31536000"},
}

// webNeighbourhood is whose turn a request takes.
func webNeighbourhood(r *http.Request) netip.Prefix {
	address, _ := r.Context().Value(sourceKey{}).(string)
	a, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	return neighbourhood(a)
}

// webSource is where a request comes from, as the handler before it has found out.
func webSource(r *http.Request) identity.Source {
	address, _ := r.Context().Value(sourceKey{}).(string)
	return identity.Source{Address: address, Device: r.UserAgent()}
}

// webReader says who reads, by a read token. Who may not is told so, and recorded, as over gRPC.
func (s *Server) webReader(r *http.Request, rule access) (identity.Caller, error) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return identity.Caller{}, fmt.Errorf("%w: send `Authorization: Bearer` and a read token; `signet ledger token` prints one", errNotAuthenticated)
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if len(values) > 1 || !ok || !strings.EqualFold(scheme, "bearer") || token == "" {
		return identity.Caller{}, fmt.Errorf("%w: send one `Authorization: Bearer …`", errNotAuthenticated)
	}
	c, err := s.identities.AuthenticateReader(identity.Secret(token), webSource(r))
	if err != nil {
		return identity.Caller{}, err
	}
	if !rule.allows(c) {
		if err := s.identities.Denied(r.Context(), c, r.Method+" "+r.Pattern, "role"); err != nil {
			return identity.Caller{}, err
		}
		return identity.Caller{}, fmt.Errorf("%w: %s", errDenied, needed(rule))
	}
	return c, nil
}

// webWrite ends an answer. A client that has gone is none of our business.
func (s *Server) webWrite(w http.ResponseWriter, r *http.Request, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if _, err := w.Write(body); err != nil {
		s.log.DebugContext(r.Context(), "an answer was not taken", "path", r.URL.Path, "error", err)
	}
}

// webError answers with an error: its status, and a sentence that says what to do.
func (s *Server) webError(w http.ResponseWriter, r *http.Request, err error) {
	st := status.Convert(toStatus(r.Context(), s.log, r.Pattern, err))
	code := http.StatusInternalServerError
	switch st.Code() {
	case codes.NotFound, codes.OutOfRange:
		code = http.StatusNotFound
	case codes.Unauthenticated:
		code = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", `Bearer realm="signet"`)
	case codes.PermissionDenied:
		code = http.StatusForbidden
	case codes.InvalidArgument:
		code = http.StatusBadRequest
	case codes.ResourceExhausted:
		code = http.StatusTooManyRequests
	case codes.Unavailable:
		code = http.StatusServiceUnavailable
	case codes.Canceled, codes.DeadlineExceeded:
		code = http.StatusRequestTimeout
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, st.Message(), code)
}

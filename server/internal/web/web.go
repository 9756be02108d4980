// Package web is the signing pages: HTML that a browser shows without any script, passkeys alone excepted.
package web

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"google.golang.org/grpc"
)

// Config is what the pages are made of.
type Config struct {
	// Conn calls the services.
	Conn grpc.ClientConnInterface
	// Context returns the context of the calls that a request makes: where it comes from, and the session that its cookie names; empty: none.
	Context func(r *http.Request, session string) context.Context
	// Origin is the pages' own, as a browser writes it; RPID the host name that passkeys are bound to.
	Origin, RPID string
	// Organisation, Environment and Version stand on every page.
	Organisation, Environment, Version string
	// Accountability is the statement that a person acknowledges when they enrol.
	Accountability string
	Clock          func() time.Time
	Log            *slog.Logger
}

// New returns the pages.
func New(c Config) (http.Handler, error) {
	return http.NewServeMux(), nil
}

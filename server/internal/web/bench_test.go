package web_test

import (
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/signetd/signet/server/servertest"
)

// BenchmarkFirstByte measures, over TLS on the loopback and on a connection that is open, how long a page's first byte takes.
func BenchmarkFirstByte(b *testing.B) {
	s := start(b)
	signed, open := s.release("v0.1.0"), s.release("v0.2.0")
	g := s.guest()
	g.login("ada")
	place := g.sign(g.prepare(signed.GetName(), approve, "All gates green."), "user", "ada", "password", servertest.Password).header.Get("Location")
	for _, page := range append([]string{"/login"}, s.everyPage(open.GetName(), g.prepare(open.GetName(), approve, "All gates green."), place)...) {
		b.Run(pageName(page), func(b *testing.B) {
			var all []time.Duration
			for b.Loop() {
				var asked, first time.Time
				ctx := httptrace.WithClientTrace(b.Context(), &httptrace.ClientTrace{
					WroteRequest: func(httptrace.WroteRequestInfo) { asked = time.Now() }, GotFirstResponseByte: func() { first = time.Now() },
				})
				r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.origin+page, nil)
				if err != nil {
					b.Fatal(err)
				}
				r.Header = g.Header.Clone()
				client := g.client
				if page == "/login" {
					client = &http.Client{Transport: g.client.Transport}
				}
				answer, err := client.Do(r)
				if err != nil {
					b.Fatal(err)
				}
				io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				all = append(all, first.Sub(asked))
			}
			slices.Sort(all)
			b.ReportMetric(float64(all[len(all)/2].Microseconds())/1e3, "ms-median")
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1e3, "ms-p99")
		})
	}
}

var ids = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|prp_[0-9a-z]+|[0-9]+$`)

// pageName is a page's path without what differs from run to run.
func pageName(path string) string {
	u, err := url.Parse(path)
	if err != nil {
		return path
	}
	return ids.ReplaceAllString(u.Path, "ID")
}

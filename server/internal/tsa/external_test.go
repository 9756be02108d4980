package tsa

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/signetd/signet/api/rfc3161"
)

// another is an authority of others on a listener of its own.
func another(t *testing.T, w *world, answer http.HandlerFunc) (*External, *httptest.Server) {
	t.Helper()
	a := w.authority(t)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if answer != nil {
			answer(rw, r)
			return
		}
		granted(t, a, rw, r)
	}))
	t.Cleanup(server.Close)
	e, err := NewExternal(ExternalConfig{Name: "another", URL: server.URL + "/tsa", Roots: []*x509.Certificate{w.root}, Timeout: 5 * time.Second, Clock: w.config().Clock})
	if err != nil {
		t.Fatal(err)
	}
	return e, server
}

// granted answers as an authority should.
func granted(t *testing.T, a *Authority, rw http.ResponseWriter, r *http.Request) {
	t.Helper()
	query, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/timestamp-query" {
		t.Errorf("%s, %q, %v", r.Method, r.Header.Get("Content-Type"), err)
	}
	reply, err := a.Respond(r.Context(), query)
	if err != nil {
		t.Error(err)
	}
	rw.Header().Set("Content-Type", "application/timestamp-reply")
	rw.Write(reply)
}

func TestExternal(t *testing.T) {
	w := newWorld(t)
	e, _ := another(t, w, nil)
	data := []byte("a signed checkpoint")
	token, err := e.Stamp(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	imprint := sha256.Sum256(data)
	if _, err := token.Verify(rfc3161.VerifyOptions{Imprint: imprint[:], Roots: []*x509.Certificate{w.root}}); err != nil {
		t.Error(err)
	}
	if token.Nonce == nil || token.Nonce.BitLen() < 120 {
		t.Errorf("nonce %v", token.Nonce)
	}
	// The same place under another path is followed.
	a := w.authority(t)
	e, _ = another(t, w, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/tsa" {
			http.Redirect(rw, r, "/moved", http.StatusPermanentRedirect)
			return
		}
		granted(t, a, rw, r)
	})
	if _, err := e.Stamp(t.Context(), data); err != nil {
		t.Errorf("after a redirect to the same place: %v", err)
	}
}

// Whatever an authority of others does, what it gives counts only if everything fits.
func TestExternalLies(t *testing.T) {
	w := newWorld(t)
	elsewhere := newWorld(t) // another root of the same name
	data := []byte("a signed checkpoint")
	other := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { t.Error("the request was taken to another place") }))
	defer other.Close()
	earlier := func(w *world, r *http.Request, d time.Duration) []byte {
		query, _ := io.ReadAll(r.Body)
		w.pass(d)
		defer w.pass(-d)
		a, err := New(w.config())
		if err != nil {
			t.Error(err)
			return nil
		}
		reply, err := a.Respond(r.Context(), query)
		if err != nil {
			t.Error(err)
		}
		return reply
	}
	stamp := func(rw http.ResponseWriter, reply []byte) {
		rw.Header().Set("Content-Type", "application/timestamp-reply")
		rw.Write(reply)
	}
	var first []byte
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"an error", func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "no", http.StatusBadGateway) }, "502"},
		{"a page", func(rw http.ResponseWriter, _ *http.Request) { rw.Write([]byte("<html>")) }, "instead of a time-stamp"},
		{"nothing", func(rw http.ResponseWriter, _ *http.Request) { stamp(rw, nil) }, "malformed"},
		{"noise", func(rw http.ResponseWriter, _ *http.Request) { stamp(rw, []byte{0x30, 0x80, 0, 0}) }, "malformed"},
		{"too much", func(rw http.ResponseWriter, _ *http.Request) { stamp(rw, make([]byte, MaxExternalAnswer+1)) }, "more than 65536 bytes"},
		{"a refusal", func(rw http.ResponseWriter, _ *http.Request) {
			stamp(rw, rfc3161.EncodeRefusal(rfc3161.SystemFailure, "come back later"))
		}, "come back later"},
		{"another root", func(rw http.ResponseWriter, r *http.Request) {
			query, _ := io.ReadAll(r.Body)
			reply, _ := elsewhere.authority(t).Respond(r.Context(), query)
			stamp(rw, reply)
		}, "no chain"},
		{"an answer from before", func(rw http.ResponseWriter, r *http.Request) {
			if first == nil {
				first = earlier(w, r, 0)
			}
			stamp(rw, first)
		}, "nonce"},
		{"a time long ago", func(rw http.ResponseWriter, r *http.Request) { stamp(rw, earlier(w, r, -time.Minute)) }, "one of the two is wrong"},
		{"a time to come", func(rw http.ResponseWriter, r *http.Request) { stamp(rw, earlier(w, r, time.Minute)) }, "one of the two is wrong"},
		{"a redirect to another place", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, other.URL+"/tsa", http.StatusPermanentRedirect)
		}, "another place"},
		{"a redirect without the request", func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, "/elsewhere", http.StatusSeeOther) }, "without taking"},
		{"a redirect to itself", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "/tsa", http.StatusTemporaryRedirect)
		}, "again and again"},
		{"one bit of the token", func(rw http.ResponseWriter, r *http.Request) {
			reply := earlier(w, r, 0)
			reply[len(reply)-3] ^= 1
			stamp(rw, reply)
		}, "not made by the key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, _ := another(t, w, c.answer)
			_, err := e.Stamp(t.Context(), data)
			if c.name == "an answer from before" { // the second time it is
				_, err = e.Stamp(t.Context(), data)
			}
			if !errors.Is(err, ErrExternal) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v; want %q", err, c.want)
			}
		})
	}
}

// blocked is a transport whose answer never comes.
type blocked struct{}

func (blocked) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, context.Cause(r.Context())
}

func TestExternalTakesTooLong(t *testing.T) {
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		e, err := NewExternal(ExternalConfig{Name: "slow", URL: "https://slow.example/", Roots: []*x509.Certificate{w.root}, Clock: time.Now, Transport: blocked{}})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err = e.Stamp(t.Context(), []byte("x"))
		if took := time.Since(began); !errors.Is(err, ErrExternal) || took != 10*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

func TestExternalConfig(t *testing.T) {
	w := newWorld(t)
	roots := []*x509.Certificate{w.root}
	for i, c := range []ExternalConfig{
		{Name: "a", URL: "ftp://a.example/", Roots: roots, Clock: time.Now},
		{Name: "a", URL: "https://user:password@a.example/", Roots: roots, Clock: time.Now},
		{Name: "a", URL: "https:///tsa", Roots: roots, Clock: time.Now},
		{Name: "a", URL: "https://a.example/#x", Roots: roots, Clock: time.Now},
		{Name: "a", URL: "https://a.example/\x7f", Roots: roots, Clock: time.Now},
		{Name: "", URL: "https://a.example/", Roots: roots, Clock: time.Now},
		{Name: "a", URL: "https://a.example/", Clock: time.Now},
		{Name: "a", URL: "https://a.example/", Roots: roots},
		{Name: "a", URL: "https://a.example/", Roots: roots, Clock: time.Now, Timeout: -1},
	} {
		if _, err := NewExternal(c); !errors.Is(err, ErrConfig) {
			t.Error(fmt.Sprint(i), err)
		}
	}
}

// A token that says less of the time than verifiers accept does not count, and no request leaves TLS.
func TestExternalBounds(t *testing.T) {
	w := newWorld(t)
	e, _ := another(t, w, nil)
	data := []byte("a signed checkpoint")
	token, err := e.Stamp(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	imprint := sha256.Sum256(data)
	for accuracy, want := range map[time.Duration]bool{MaxExternalAccuracy: true, MaxExternalAccuracy + 1: false} {
		rough := *token
		rough.Accuracy = accuracy
		if err := e.judge(&rough, imprint[:], w.wall, w.wall); (err == nil) != want {
			t.Errorf("accurate to %v: %v", accuracy, err)
		}
	}
	slack := MaxExternalSkew + token.Accuracy
	for skew, want := range map[time.Duration]bool{slack: true, slack + 1: false, -slack: true, -slack - 1: false} {
		if err := e.judge(token, imprint[:], token.GenTime.Add(skew), token.GenTime.Add(skew)); (err == nil) != want {
			t.Errorf("a clock that differs by %v: %v", skew, err)
		}
	}
	request := func(url string) *http.Request { return httptest.NewRequest(http.MethodPost, url, nil) }
	first := request("https://tsa.example/")
	for url, want := range map[string]bool{"https://tsa.example/moved": true, "http://tsa.example/": false, "https://tsa.example:444/": false, "https://other.example/": false} {
		if err := e.client.CheckRedirect(request(url), []*http.Request{first}); (err == nil) != want {
			t.Errorf("a redirect to %s: %v", url, err)
		}
	}
}

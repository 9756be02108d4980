package identity

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestReadTokens: what a read token opens, and everything that ends it.
func TestReadTokens(t *testing.T) {
	f := newFixture(t)
	admin, _, ada := f.ada()
	curl := Source{Address: desk.Address, Device: "curl/8"}
	issue := func(t *testing.T) (Caller, Secret, Secret) {
		t.Helper()
		c, session := f.loginToken("ada", adaPass)
		token, expires, err := f.d.IssueReadToken(c, desk)
		if err != nil || !expires.Equal(c.Expires) {
			t.Fatal(err, expires)
		}
		return c, session, token
	}
	ended := func(t *testing.T, token Secret, from Source) {
		t.Helper()
		if _, err := f.d.AuthenticateReader(token, from); !errors.Is(err, ErrSession) {
			t.Errorf("error %v, want no session", err)
		}
	}
	t.Run("reads in the person's name from any device", func(t *testing.T) {
		c, _, token := issue(t)
		got, err := f.d.AuthenticateReader(token, curl)
		if err != nil || got.ID != ada.ID || got.Session != c.Session || fmt.Sprint(got.Roles) != fmt.Sprint(c.Roles) {
			t.Errorf("%+v, %v", got, err)
		}
		if len(token) != 43 || strings.Contains(fmt.Sprint(token), token.Reveal()) {
			t.Error("the token shows")
		}
	})
	t.Run("opens no call, and a session's token reads nothing", func(t *testing.T) {
		_, session, token := issue(t)
		if _, err := f.d.Authenticate(t.Context(), token, nil, desk); !errors.Is(err, ErrSession) {
			t.Errorf("error %v", err)
		}
		ended(t, session, desk)
		ended(t, "", desk)
		ended(t, Secret(strings.Repeat("A", 4096)), desk)
	})
	t.Run("holds from its address alone, and the session goes on", func(t *testing.T) {
		_, session, token := issue(t)
		ended(t, token, other)
		if _, err := f.d.Authenticate(t.Context(), session, nil, desk); err != nil {
			t.Error(err)
		}
	})
	t.Run("does not keep the session from ending when idle", func(t *testing.T) {
		_, session, token := issue(t)
		for range 2 {
			f.clock.Add(7 * time.Minute)
			if _, err := f.d.AuthenticateReader(token, curl); err != nil {
				t.Fatal(err)
			}
		}
		f.clock.Add(time.Minute)
		ended(t, token, curl)
		if _, err := f.d.Authenticate(t.Context(), session, nil, desk); !errors.Is(err, ErrSession) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("ends with the session", func(t *testing.T) {
		c, _, token := issue(t)
		if err := f.d.CloseSession(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		ended(t, token, curl)
		if _, _, err := f.d.IssueReadToken(c, desk); !errors.Is(err, ErrSession) {
			t.Errorf("issued for a closed session: %v", err)
		}
	})
	t.Run("ends with the right", func(t *testing.T) {
		_, _, token := issue(t)
		if _, err := f.d.Suspend(t.Context(), admin, ada.ID, "leave"); err != nil {
			t.Fatal(err)
		}
		ended(t, token, curl)
		if _, err := f.d.Reinstate(t.Context(), admin, ada.ID, "back"); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("so many and no more", func(t *testing.T) {
		c, _, first := issue(t)
		var last Secret
		for range maxReadTokens {
			var err error
			if last, _, err = f.d.IssueReadToken(c, desk); err != nil {
				t.Fatal(err)
			}
		}
		ended(t, first, curl)
		if _, err := f.d.AuthenticateReader(last, curl); err != nil {
			t.Error(err)
		}
		if n := len(f.d.activity.sessions[c.Session].reads); n != maxReadTokens {
			t.Errorf("%d tokens", n)
		}
		if err := f.d.CloseSession(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		for key, r := range f.d.activity.readers {
			if r.session == c.Session {
				t.Errorf("token %x outlives its session", key[:4])
			}
		}
	})
	t.Run("not for a service", func(t *testing.T) {
		if _, _, err := f.d.IssueReadToken(Caller{ID: "svc_x", Session: "ses_x", Method: MethodTLS}, desk); !errors.Is(err, ErrState) {
			t.Errorf("error %v", err)
		}
	})
}

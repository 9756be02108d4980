package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/signetd/signet/keystore"
)

func TestStatusSocket(t *testing.T) {
	for name, folder := range map[string]string{"": "var", " in a folder whose name is longer than the address of a socket": strings.Repeat("long/", 40)} {
		t.Run("a server"+name, func(t *testing.T) {
			c := Config{DataDir: filepath.Join(t.TempDir(), folder)}
			if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
				t.Fatal(err)
			}
			path := c.Path(StatusSocket)
			if _, err := AskHSM(t.Context(), c); !errors.Is(err, ErrNotRunning) {
				t.Fatalf("without a server: %v", err)
			}
			l, err := listenUnix(path)
			if err != nil {
				t.Fatal(err)
			}
			format := HSMStatusFormat
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, `{"format":%q,"ready":true}`, format) })}
			served := make(chan error, 1)
			go func() { served <- server.Serve(l) }()
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info, err)
			}
			if s, err := AskHSM(t.Context(), c); err != nil || !s.Ready {
				t.Errorf("%+v, %v", s, err)
			}
			format = "signet-hsm-status/2"
			if _, err := AskHSM(t.Context(), c); err == nil || !strings.Contains(err.Error(), format) {
				t.Errorf("another format: %v", err)
			}
			server.Close()
			<-served
			if _, err := os.Lstat(path); !os.IsNotExist(err) {
				t.Errorf("it is left: %v", err)
			}
			if _, err := AskHSM(t.Context(), c); !errors.Is(err, ErrNotRunning) {
				t.Errorf("after it: %v", err)
			}
		})
	}
	t.Run("one that was killed", func(t *testing.T) {
		c := Config{DataDir: t.TempDir()}
		left, err := net.ListenUnix("unix", &net.UnixAddr{Name: c.Path(StatusSocket), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		left.SetUnlinkOnClose(false)
		left.Close()
		if _, err := AskHSM(t.Context(), c); !errors.Is(err, ErrNotRunning) {
			t.Errorf("%v", err)
		}
		l, err := listenUnix(c.Path(StatusSocket))
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	})
	t.Run("something else is there", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), StatusSocket)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := listenUnix(path); err == nil {
			t.Error("it was taken away")
		}
	})
}

// Who is refused because of the HSM is told when to come back, as the HSM's keeper knows it.
func TestRetryInfo(t *testing.T) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	for name, tc := range map[string]struct {
		err  error
		want time.Duration
	}{
		"as the token says":  {&keystore.UnavailableError{RetryAfter: 700 * time.Millisecond, Cause: errors.New("recovering")}, 700 * time.Millisecond},
		"wrapped":            {fmt.Errorf("sign: %w", &keystore.UnavailableError{RetryAfter: 3 * time.Second, Cause: errors.New("hanging")}), 3 * time.Second},
		"not at once":        {&keystore.UnavailableError{RetryAfter: time.Microsecond, Cause: errors.New("recovering")}, leastRetry},
		"it does not know":   {keystore.ErrUnavailable, 5 * time.Second},
		"a wrong PIN":        {keystore.ErrPIN, 30 * time.Second},
		"a wrong signature":  {keystore.ErrWrongSignature, 5 * time.Second},
		"known, but no time": {&keystore.UnavailableError{Cause: errors.New("gone")}, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			st, _ := status.FromError(toStatus(t.Context(), log, "/m", tc.err))
			var reason string
			var retry time.Duration
			for _, d := range st.Details() {
				switch d := d.(type) {
				case *errdetails.ErrorInfo:
					reason = d.GetReason()
				case *errdetails.RetryInfo:
					retry = d.GetRetryDelay().AsDuration()
				}
			}
			if st.Code() != codes.Unavailable || reason != "HSM_UNAVAILABLE" || retry != tc.want {
				t.Errorf("%s %s, after %v, want %v", st.Code(), reason, retry, tc.want)
			}
		})
	}
}

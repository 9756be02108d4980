package server

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// StatusSocket is the name, in the data folder, of the socket over which `signetd hsm status` asks a running service. Who may open it, its
// owner alone, may read the HSM's PIN file, too.
const StatusSocket = "signetd.sock"

// sideDoors are what the server answers on besides gRPC: metrics, and the status socket. Both only tell.
type sideDoors struct {
	listeners []net.Listener
	servers   []*http.Server
	log       *slog.Logger
}

func (s *Server) openSideDoors() error {
	d := &s.doors
	d.log = s.log
	registry, err := s.newRegistry()
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	if address := s.config.Metrics.Address; address != "" {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("metrics: %w; is another server running? change metrics.address", err)
		}
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
			MaxRequestsInFlight: 4, Timeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		}))
		d.add(l, mux)
		s.log.Info("metrics", "address", l.Addr().String())
		s.metricsAddress = l.Addr().String()
	}
	l, err := listenUnix(s.config.Path(StatusSocket))
	if err != nil {
		return fmt.Errorf("status socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hsm", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.MarshalWrite(w, s.HSM(), json.Deterministic(true)); err != nil {
			s.log.Warn("status", "error", err)
		}
	})
	s.serveBackup(mux)
	s.serveArchive(mux)
	s.serveScrub(mux)
	d.add(l, mux)
	return nil
}

// MetricsAddress is where metrics are read; empty without.
func (s *Server) MetricsAddress() string { return s.metricsAddress }

func (d *sideDoors) add(l net.Listener, handler http.Handler) {
	d.listeners = append(d.listeners, l)
	d.servers = append(d.servers, &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 15 * time.Second, IdleTimeout: time.Minute,
		MaxHeaderBytes: 8 << 10, ErrorLog: slog.NewLogLogger(d.log.Handler(), slog.LevelDebug),
	})
}

// serve answers until close.
func (d *sideDoors) serve(run func(func())) {
	for i, server := range d.servers {
		run(func() {
			if err := server.Serve(d.listeners[i]); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				d.log.Error("metrics or status are no longer told", "address", d.listeners[i].Addr().String(), "error", err)
			}
		})
	}
}

func (d *sideDoors) close() error {
	var failed error
	for i, server := range d.servers {
		if err := server.Close(); err != nil {
			failed = errors.Join(failed, err)
		}
		if err := d.listeners[i].Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// maxSocketPath is what a socket's address can hold, with room to spare.
const maxSocketPath = 100

// reachable returns an address for a socket whose path may be longer than an address: by its folder, which is open until done.
func reachable(path string) (address string, done func(), err error) {
	if len(path) <= maxSocketPath {
		return path, func() {}, nil
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), filepath.Base(path)), func() { folder.Close() }, nil
}

// listenUnix listens on a socket that its owner alone can open. One that is there is left from a server that was killed: the ledger is
// locked, so no other server is running.
func listenUnix(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("%s is no socket; remove it", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	address, done, err := reachable(path)
	if err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		done()
		return nil, err
	}
	l.SetUnlinkOnClose(false) // by its own path, below
	if err := os.Chmod(path, 0o600); err != nil {
		done()
		return nil, errors.Join(err, l.Close())
	}
	return &statusListener{UnixListener: l, path: path, done: done}, nil
}

type statusListener struct {
	*net.UnixListener
	path string
	done func()
}

func (l *statusListener) Close() error {
	err := l.UnixListener.Close()
	if err == nil {
		os.Remove(l.path)
		l.done()
	}
	return err
}

// ErrNotRunning says that no server runs on a data folder.
var ErrNotRunning = errors.New("the service is not running")

// socketClient reaches the server that runs on a data folder.
func socketClient(c Config) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			address, done, err := reachable(c.Path(StatusSocket))
			if err != nil {
				return nil, err
			}
			defer done()
			return new(net.Dialer).DialContext(ctx, "unix", address)
		},
	}}
}

// socketError tells a server that does not run from one that does not answer.
func socketError(c Config, err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return ErrNotRunning
	}
	return fmt.Errorf("ask the service over %s: %w", c.Path(StatusSocket), err)
}

// maxStatus bounds what is read from a server.
const maxStatus = 4 << 20

// AskHSM asks the server that runs on the data folder what its tokens are doing. [ErrNotRunning] if none does.
func AskHSM(ctx context.Context, c Config) (HSMStatus, error) {
	client := socketClient(c)
	client.Timeout = 15 * time.Second
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://signetd/hsm", nil)
	if err != nil {
		return HSMStatus{}, err
	}
	reply, err := client.Do(request)
	if err != nil {
		return HSMStatus{}, socketError(c, err)
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return HSMStatus{}, fmt.Errorf("ask the service over %s: it answers %s", c.Path(StatusSocket), reply.Status)
	}
	var status HSMStatus
	if err := json.UnmarshalRead(io.LimitReader(reply.Body, maxStatus), &status); err != nil {
		return HSMStatus{}, fmt.Errorf("the service's answer over %s: %w", c.Path(StatusSocket), err)
	}
	if status.Format != HSMStatusFormat {
		return HSMStatus{}, fmt.Errorf("the service answers in the format %q, this program reads %q: use the program of the service", status.Format, HSMStatusFormat)
	}
	return status, nil
}

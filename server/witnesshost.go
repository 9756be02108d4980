package server

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/witness"
)

// WitnessHostConfig is the whole configuration of a witness (`signetd witness serve`): a small service of its own, on a machine or in an
// organisation other than the ledger's.
type WitnessHostConfig struct {
	WitnessHostSettings
	Folder string // relative paths begin here
}

// WitnessHostSettings is what a witness's configuration file says.
type WitnessHostSettings struct {
	Name        string           `json:"name" doc:"name of the witness's key, such as witness.example/w1; never changes"`
	Address     string           `json:"address" doc:"host:port to listen on"`
	Certificate string           `json:"certificate" doc:"server certificate chain, PEM; empty: plain HTTP, for the loopback or behind a proxy. Nothing that is exchanged is secret, and all of it is signed"`
	TLSKey      string           `json:"tlsKey" doc:"its private key, PEM, mode 0600"`
	State       string           `json:"state" doc:"file that the witness remembers in. Never put back an older copy: begin anew with a new key instead"`
	KeyFile     string           `json:"keyFile" doc:"file of the witness's Ed25519 key, PEM (PKCS#8), mode 0600; empty: the key is in the HSM"`
	HSM         WitnessHSMConfig `json:"hsm" doc:"the PKCS#11 token that holds the witness's key, where it is in one"`
	Ledgers     []string         `json:"ledgers" doc:"keys of the ledgers that are watched (vkey, in their trust files)"`
	Log         LogConfig        `json:"log" doc:"the log on standard error"`
}

// WitnessHSMConfig is where a witness's key is.
type WitnessHSMConfig struct {
	Module      string `json:"module" doc:"path of the PKCS#11 module; empty: SoftHSM2 where the distribution puts it"`
	Token       string `json:"token" doc:"label of the token, or a PKCS#11 URI (RFC 7512) without a PIN"`
	PINFile     string `json:"pinFile" doc:"file with the user PIN, mode 0600, or credential:NAME for a systemd credential"`
	SoftHSMConf string `json:"softhsmConf" doc:"SOFTHSM2_CONF for SoftHSM2; empty: as the environment says"`
	Key         string `json:"key" doc:"label of the key: Ed25519"`
}

// DefaultWitnessHost returns the configuration that a file starts from.
func DefaultWitnessHost() WitnessHostConfig {
	return WitnessHostConfig{WitnessHostSettings: WitnessHostSettings{Address: "127.0.0.1:8470", State: "witness.db", KeyFile: "witness-key.pem", HSM: WitnessHSMConfig{Key: "witness-1"},
		Log: LogConfig{Level: "info", Format: "text"}}}
}

// LoadWitnessHost reads a YAML file over the defaults, and checks the values. Unknown and duplicate keys are refused.
func LoadWitnessHost(path string) (WitnessHostConfig, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return WitnessHostConfig{}, fmt.Errorf("%w: %w; `signetd witness init` makes one", ErrConfig, err)
	}
	c := DefaultWitnessHost()
	if err := yaml.UnmarshalStrict(b, &c.WitnessHostSettings); err != nil {
		return WitnessHostConfig{}, fmt.Errorf("%w: %s: %w", ErrConfig, path, err)
	}
	c.Folder = filepath.Dir(path)
	if err := c.Validate(); err != nil {
		return WitnessHostConfig{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Path resolves a path of the configuration.
func (c WitnessHostConfig) Path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.Folder, p)
}

// Validate checks the values.
func (c WitnessHostConfig) Validate() error {
	bad := func(key, format string, args ...any) error {
		return fmt.Errorf("%w: %s: "+format, append([]any{ErrConfig, key}, args...)...)
	}
	if _, err := chain.CosignerOf(c.Name, make(ed25519.PublicKey, ed25519.PublicKeySize)); err != nil {
		return bad("name", "%q; use a name such as witness.example/w1, without spaces and plus signs", c.Name)
	}
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		return bad("address", "%q; use host:port", c.Address)
	}
	if (c.Certificate == "") != (c.TLSKey == "") {
		return bad("certificate", "certificate and tlsKey belong together; name both or neither")
	}
	if c.State == "" {
		return bad("state", "is empty; name a file")
	}
	if (c.KeyFile == "") != (c.HSM.Token != "") || c.KeyFile == "" && c.HSM.Key == "" {
		return bad("keyFile", "the key is either in keyFile or in the token of hsm.token, under the label hsm.key")
	}
	for _, vkey := range c.Ledgers {
		if _, err := chain.NewVerifier(vkey); err != nil {
			return bad("ledgers", "%v", err)
		}
	}
	switch c.Log.Level {
	case "debug", "info", "warn", "error":
	default:
		return bad("log.level", "%q; use debug, info, warn or error", c.Log.Level)
	}
	switch c.Log.Format {
	case "text", "json":
	default:
		return bad("log.format", "%q; use text or json", c.Log.Format)
	}
	return nil
}

// YAML writes the configuration with a comment on each key.
func (c WitnessHostSettings) YAML() []byte {
	var b bytes.Buffer
	writeYAML(&b, reflect.ValueOf(c), "")
	return b.Bytes()
}

// HSMConfig returns the token of the witness's key in the form of a service's.
func (c WitnessHostConfig) HSMConfig() Config {
	out := DefaultConfig()
	out.DataDir, out.Log = c.Folder, c.Log
	out.HSM.Module, out.HSM.Token, out.HSM.PINFile, out.HSM.SoftHSMConf = c.HSM.Module, c.HSM.Token, c.HSM.PINFile, c.HSM.SoftHSMConf
	return out
}

// WitnessSigner signs with a witness's key.
type WitnessSigner struct {
	Public crypto.PublicKey // Ed25519
	Sign   func(ctx context.Context, msg []byte) ([]byte, error)
}

// MakeWitnessKey makes the key file of a witness.
func MakeWitnessKey(path string) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writeNew(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// ReadWitnessKey reads the key file of a witness. Nobody but its owner may read it.
func ReadWitnessKey(path string) (WitnessSigner, error) {
	fail := func(err error) (WitnessSigner, error) {
		return WitnessSigner{}, fmt.Errorf("%w: keyFile: %w", ErrConfig, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fail(err)
	}
	if info.Mode().Perm()&0o077 != 0 || !info.Mode().IsRegular() || info.Size() > 64<<10 {
		return fail(fmt.Errorf("%s is not a file of mode 0600", path))
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return fail(err)
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != "PRIVATE KEY" || len(bytes.TrimSpace(rest)) > 0 {
		return fail(fmt.Errorf("%s is not one private key in PEM (PKCS#8)", path))
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return fail(fmt.Errorf("%s is not an Ed25519 key in PKCS#8", path))
	}
	return WitnessSigner{key.Public(), func(_ context.Context, msg []byte) ([]byte, error) { return ed25519.Sign(key, msg), nil }}, nil
}

// WitnessHost is an open witness.
type WitnessHost struct {
	config  WitnessHostConfig
	key     chain.Cosigner
	witness *witness.Witness
	server  *http.Server
	log     *slog.Logger
}

// OpenWitnessHost opens a witness. A nil clock is time.Now, a nil log none.
func OpenWitnessHost(c WitnessHostConfig, s WitnessSigner, clock func() time.Time, log *slog.Logger) (*WitnessHost, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if clock == nil {
		clock = time.Now
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	key, err := c.cosigner(s)
	if err != nil {
		return nil, err
	}
	w, err := witness.Open(witness.Config{Key: key, Sign: s.Sign, Logs: c.Ledgers, Path: c.Path(c.State), Clock: clock, Log: log})
	if err != nil {
		return nil, err
	}
	return &WitnessHost{config: c, key: key, witness: w, log: log, server: &http.Server{
		Handler: w.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}, nil
}

// cosigner is the witness's public key under its name.
func (c WitnessHostConfig) cosigner(s WitnessSigner) (chain.Cosigner, error) {
	public, ok := s.Public.(ed25519.PublicKey)
	if !ok {
		return chain.Cosigner{}, fmt.Errorf("%w: the witness's key is %T, not Ed25519", ErrConfig, s.Public)
	}
	key, err := chain.CosignerOf(c.Name, public)
	if err != nil {
		return chain.Cosigner{}, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return key, nil
}

// VKey is the key of a witness as it stands in policies.
func (c WitnessHostConfig) VKey(s WitnessSigner) (string, error) {
	key, err := c.cosigner(s)
	return key.String(), err
}

// VKey is the witness's key as it stands in policies.
func (h *WitnessHost) VKey() string { return h.key.String() }

// Listen opens the configured address.
func (h *WitnessHost) Listen() (net.Listener, error) {
	l, err := net.Listen("tcp", h.config.Address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w; is another witness running? change address", err)
	}
	if h.config.Certificate == "" {
		return l, nil
	}
	pair, err := tls.LoadX509KeyPair(h.config.Path(h.config.Certificate), h.config.Path(h.config.TLSKey))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: certificate: %w", ErrConfig, err), l.Close())
	}
	return tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}), nil
}

// Serve answers on the listener until Stop.
func (h *WitnessHost) Serve(l net.Listener) error {
	if err := h.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Stop finishes the requests in progress and closes what the witness remembers in.
func (h *WitnessHost) Stop(ctx context.Context) error {
	return errors.Join(h.server.Shutdown(ctx), h.server.Close(), h.witness.Close())
}

// WitnessedLedger is what a witness remembers of a ledger.
type WitnessedLedger struct {
	Origin  string    `json:"origin"`
	Known   bool      `json:"known"` // its key is configured
	Size    uint64    `json:"size"`  // of the newest cosigned checkpoint; 0 if there is none
	Root    string    `json:"root"`  // of its tree, hex
	Time    time.Time `json:"time"`  // of the cosignature
	Forks   int       `json:"forks"` // checkpoints that contradict what was cosigned
	Retired int       `json:"retired"`
}

// List says what the witness remembers.
func (h *WitnessHost) List() ([]WitnessedLedger, error) {
	list, err := h.witness.List()
	out := make([]WitnessedLedger, len(list))
	for i, w := range list {
		out[i] = WitnessedLedger(w)
	}
	return out, err
}

// Forget gives up what the witness remembers of a ledger whose newest checkpoint has size entries.
func (h *WitnessHost) Forget(origin string, size uint64) error { return h.witness.Forget(origin, size) }

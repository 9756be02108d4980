package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"golang.org/x/mod/sumdb/note"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/api/manifest"
	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server/internal/ledger"
	"github.com/signetd/signet/server/internal/witness"
)

// WitnessConfig says who cosigns the ledger's checkpoints.
type WitnessConfig struct {
	Policy  string   `json:"policy" doc:"file with the C2SP tlog-policy that names the witnesses, where they are asked (their URLs) and the quorum; the same text belongs in the trust file's witnessPolicy. Empty: no witnesses"`
	Delay   Duration `json:"delay" doc:"how long a signature waits for the quorum at the most; what is missing then is fetched later. 0s: it never waits"`
	Timeout Duration `json:"timeout" doc:"how long one witness may take to answer"`
	Roots   string   `json:"roots" doc:"file of the authorities of the witnesses' TLS certificates, PEM; empty: those of the system"`
}

func defaultWitness() WitnessConfig {
	return WitnessConfig{Delay: Duration(500 * time.Millisecond), Timeout: Duration(10 * time.Second)}
}

func (c WitnessConfig) validate(bad func(key, format string, args ...any) error) error {
	if c.Delay < 0 || c.Delay > Duration(time.Minute) {
		return bad("ledger.witness.delay", "%v; use 0s to 1m", time.Duration(c.Delay))
	}
	if c.Timeout <= 0 || c.Timeout > Duration(5*time.Minute) {
		return bad("ledger.witness.timeout", "%v; use a duration of up to 5m", time.Duration(c.Timeout))
	}
	return nil
}

// witnessPolicy reads the policy; nil where none is configured.
func (c Config) witnessPolicy(vkey string) (*chain.Policy, error) {
	if c.Ledger.Witness.Policy == "" {
		return nil, nil
	}
	path := c.Path(c.Ledger.Witness.Policy)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: ledger.witness.policy: %w", ErrConfig, err)
	}
	p, err := chain.ParsePolicy(string(text))
	if err != nil {
		return nil, fmt.Errorf("%w: ledger.witness.policy: %s: %w", ErrConfig, path, err)
	}
	for _, w := range p.Witnesses {
		if c.SystemAccess == manifest.Open && inClear(w.URL) {
			return nil, fmt.Errorf("%w: ledger.witness.policy: the witness %q at %q: an open system sends nothing without encryption; use an https URL", ErrConfig, w.Name, w.URL)
		}
	}
	if !p.About(vkey) {
		return nil, fmt.Errorf("%w: ledger.witness.policy: %s names another log than this ledger, whose key is %s", ErrConfig, path, vkey)
	}
	return p, nil
}

// witnessClient makes the client of a policy's witnesses.
func (c Config) witnessClient(p *chain.Policy, v note.Verifier, log *slog.Logger) (*witness.Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	transport.MaxResponseHeaderBytes = 16 << 10
	if path := c.Path(c.Ledger.Witness.Roots); path != "" {
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("%w: ledger.witness.roots: %w", ErrConfig, err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: ledger.witness.roots: %s holds no certificate", ErrConfig, path)
		}
		transport.TLSClientConfig.RootCAs = roots
	}
	client, err := witness.NewClient(witness.Options{
		Policy: p, Verifier: v, Timeout: time.Duration(c.Ledger.Witness.Timeout), Transport: transport, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: ledger.witness.policy: %w", ErrConfig, err)
	}
	return client, nil
}

// addWitnesses makes the ledger know which checkpoints have the quorum. The options have its key already.
func addWitnesses(o Options, lo *ledger.Options) error {
	vkey, _, err := chain.VerifierKey(lo.Origin, lo.Signer.Public)
	if err != nil {
		return err
	}
	p, err := o.Config.witnessPolicy(vkey)
	if err != nil || p == nil || p.AsksNobody() {
		return err
	}
	lo.Quorum = func(signed []byte) bool { return p.Check(signed) == nil }
	return nil
}

// openWitnesses makes the client that has checkpoints cosigned.
func (s *Server) openWitnesses() error {
	p, err := s.config.witnessPolicy(s.vkey)
	if err != nil || p == nil {
		return err
	}
	s.witnesses, err = s.config.witnessClient(p, s.ledger.Verifier(), s.log)
	return err
}

// keepWitnessed has checkpoints cosigned until ctx ends.
func (s *Server) keepWitnessed(ctx context.Context) {
	if s.witnesses != nil {
		s.background.Go(func() { s.witnesses.Run(ctx, s.ledger) })
	}
}

// witnessStatus is what is known of each witness.
func (s *Server) witnessStatus() []witness.Status {
	if s.witnesses == nil {
		return nil
	}
	return s.witnesses.Status()
}

// witnessMessages is what GetLedgerStatus says of the witnesses.
func (s *Server) witnessMessages() (messages []*signetv1.Witness, problems []string) {
	for _, w := range s.witnessStatus() {
		m := &signetv1.Witness{Name: w.Name, Url: w.URL, Size: w.Size}
		if !w.Time.IsZero() {
			m.AnswerTime = timestamppb.New(w.Time)
		}
		if w.Err != nil {
			m.Error = w.Err.Error()
			problems = append(problems, "witness "+w.Name+": "+m.Error)
		}
		messages = append(messages, m)
	}
	return messages, problems
}

// witnessSightings asks the witnesses of the configuration how far they have seen the ledger.
func witnessSightings(ctx context.Context, o Options, s ledger.Standing) ([]sighting, error) {
	if o.Config.Ledger.Witness.Policy == "" {
		return nil, nil
	}
	key, err := o.Keys.Key(ctx, ledgerKeyID)
	if err != nil {
		return nil, fmt.Errorf("the ledger's key: %w", err)
	}
	vkey, _, err := chain.VerifierKey(o.Config.Ledger.Origin, key.Public)
	if err != nil {
		return nil, err
	}
	v, err := chain.NewVerifier(vkey)
	if err != nil {
		return nil, err
	}
	p, err := o.Config.witnessPolicy(vkey)
	if err != nil {
		return nil, err
	}
	client, err := o.Config.witnessClient(p, v, o.Log)
	if err != nil {
		return nil, err
	}
	var out []sighting
	for _, seen := range client.Latest(ctx, s) {
		e := ledger.Evidence{Source: "witness " + seen.Name, Size: seen.Size, Root: seen.Root, Note: seen.Note}
		if errors.Is(seen.Err, witness.ErrFork) {
			e.Against, seen.Err = seen.Err.Error(), nil
		}
		out = append(out, sighting{evidence: e, witness: seen.Name, err: seen.Err})
	}
	return out, nil
}

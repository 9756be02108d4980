package server

import (
	"fmt"
	"slices"
	"time"

	"github.com/signetd/signet/keystore"
)

// HSMStatusFormat names the form of [HSMStatus]. A report of another format is not read as one of these.
const HSMStatusFormat = "signet-hsm-status/1"

// HSMStatus is what a service's tokens are doing.
type HSMStatus struct {
	Format   string        `json:"format"`
	Running  bool          `json:"running"` // the service answered; if not, the tokens were opened to ask them
	Version  string        `json:"version"`
	Time     time.Time     `json:"time"`
	Ready    bool          `json:"ready"` // signatures can be made
	Reason   string        `json:"reason,omitempty"`
	Services []ServiceDown `json:"notServing"` // parts of the service that do not work
	Tokens   []TokenStatus `json:"tokens"`
	Missing  []MissingKey  `json:"missing"` // keys that a replica is known not to have
}

// ServiceDown is a part of the service that does not work.
type ServiceDown struct {
	Service string `json:"service"`
	Reason  string `json:"reason"`
}

// TokenStatus is what a token is doing: [keystore.Status] with its name and roles.
type TokenStatus struct {
	Name       string            `json:"name"`
	Roles      []string          `json:"roles"`
	State      keystore.State    `json:"state"`
	Since      time.Time         `json:"since,omitzero"`
	Reason     string            `json:"reason,omitempty"`
	Active     bool              `json:"active"`
	Replica    int               `json:"replica"`
	Label      string            `json:"label"`
	Serial     string            `json:"serial"`
	Module     string            `json:"module"`
	Model      string            `json:"model"`
	Proved     time.Time         `json:"proved,omitzero"`
	Tested     time.Time         `json:"tested,omitzero"`
	Epoch      uint64            `json:"epoch"`
	Sessions   uint64            `json:"sessions"`
	Processes  int               `json:"processes"`
	Workers    int               `json:"workers"`
	Busy       int               `json:"busy"`
	Stuck      int               `json:"stuck"`
	Waiting    int               `json:"waiting"`
	Queue      int               `json:"queue"`
	Missing    int               `json:"missing"`
	Recoveries uint64            `json:"recoveries"`
	Respawns   uint64            `json:"respawns"`
	Signatures map[string]uint64 `json:"signatures"`
	Errors     map[string]uint64 `json:"errors"`
	Wait       Latency           `json:"wait"`
	Service    Latency           `json:"service"`
}

// Latency is a distribution in short. The quantiles are upper bounds, powers of two of a microsecond.
type Latency struct {
	Number uint64  `json:"number"`
	Mean   float64 `json:"mean"` // seconds
	P50    float64 `json:"p50"`
	P99    float64 `json:"p99"`
}

// MissingKey is a key that a replica is known not to have.
type MissingKey struct {
	Key     string `json:"key"`
	Label   string `json:"label"`
	Replica int    `json:"replica"`
}

// ReportHSM says what the tokens of a key store are doing. Names and roles are those of the configuration.
func ReportHSM(c Config, keys *keystore.Store) HSMStatus {
	out := HSMStatus{Format: HSMStatusFormat, Time: time.Now().UTC(), Ready: true, Services: []ServiceDown{}, Tokens: []TokenStatus{}, Missing: []MissingKey{}}
	for _, r := range c.HSM.Roles.all() {
		if err := keys.ReadyFor(r.probe); err != nil && slices.Contains(needs[""], r.name) {
			out.Ready, out.Reason = false, err.Error()
			break
		}
	}
	all, configured := keys.Status(), c.HSM.ordered()
	for i, s := range all {
		t := TokenStatus{
			Name: nameOf(c, i, s, len(all)), Roles: []string{}, State: s.State, Since: utc(s.Since), Reason: s.Reason, Active: s.Active, Replica: s.Replica,
			Label: s.Token, Serial: s.Serial, Module: s.Module, Model: s.Model, Proved: utc(s.Proved), Tested: utc(s.Tested), Epoch: s.Epoch,
			Sessions: s.Sessions, Processes: s.Processes, Workers: s.Workers, Busy: s.Busy, Stuck: s.Stuck, Waiting: s.Waiting, Queue: s.Queue,
			Missing: s.Missing, Recoveries: s.Recoveries, Respawns: s.Respawns, Signatures: map[string]uint64{}, Errors: map[string]uint64{},
			Wait: latency(s.Wait), Service: latency(s.Service),
		}
		if len(all) == len(configured) {
			t.Roles = c.HSM.RolesOf(configured[i])
		}
		for a, n := range s.Signatures {
			t.Signatures[string(a)] = n
		}
		for name, n := range s.Errors {
			t.Errors[name] = n
		}
		out.Tokens = append(out.Tokens, t)
	}
	for _, m := range keys.Missing() {
		out.Missing = append(out.Missing, MissingKey{Key: string(m.ID), Label: m.Token, Replica: m.Replica})
	}
	return out
}

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

func latency(d keystore.Durations) Latency {
	l := Latency{Number: d.Number, P50: d.Quantile(0.5).Seconds(), P99: d.Quantile(0.99).Seconds()}
	if d.Number > 0 {
		l.Mean = d.Sum.Seconds() / float64(d.Number)
	}
	return l
}

// HSM says what the tokens are doing.
func (s *Server) HSM() HSMStatus {
	out := ReportHSM(s.config, s.keys)
	out.Running, out.Version = true, s.version
	if err := s.readiness(""); err != nil {
		out.Ready, out.Reason = false, err.Error()
	}
	for service := range needs {
		if err := s.readiness(service); err != nil && service != "" {
			out.Services = append(out.Services, ServiceDown{Service: service, Reason: err.Error()})
		}
	}
	slices.SortFunc(out.Services, func(a, b ServiceDown) int { return compareText(a.Service, b.Service) })
	return out
}

func compareText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// tokenName is what the configuration calls the token whose status is the i-th.
func (s *Server) tokenName(i int, status keystore.Status) string {
	return nameOf(s.config, i, status, -1)
}

// nameOf is what the configuration calls a token, or else its label and place: no two tokens of a server have one name.
func nameOf(c Config, i int, s keystore.Status, number int) string {
	if configured := c.HSM.ordered(); i < len(configured) && (number < 0 || number == len(configured)) {
		return configured[i].Name
	}
	return fmt.Sprintf("%s-%d", s.Token, i)
}

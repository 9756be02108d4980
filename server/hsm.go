package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/signetd/signet/keystore"
)

// DefaultProcesses is how many worker processes run a token's PKCS#11 module where the configuration does not say.
const DefaultProcesses = 0

// maxProcesses and maxTokens bound what is surely a mistake.
const (
	maxProcesses = 16
	maxTokens    = 32
)

// HSMConfig is where the keys are: on one token, or on several.
type HSMConfig struct {
	Module      string `json:"module" doc:"path of the PKCS#11 module; empty: SoftHSM2 where the distribution puts it"`
	Token       string `json:"token" doc:"label of the token, or a PKCS#11 URI (RFC 7512) without a PIN"`
	PINFile     string `json:"pinFile" doc:"file with the user PIN, mode 0600; outside of the data folder, or credential:NAME for a systemd credential. To change the PIN while the service runs, change it in the token, then here; a credential is read anew with a restart"`
	SoftHSMConf string `json:"softhsmConf" doc:"SOFTHSM2_CONF for SoftHSM2; empty: as the environment says"`
	Workers     int    `json:"workers" doc:"sessions that sign at the same time, in each process; 0: near the number of cores"`
	// SessionCopies makes SoftHSM a sixth faster.
	SessionCopies bool `json:"sessionCopies" doc:"sign with copies of the keys in the sessions' memory, equally protected; for tokens that allow it"`
	Processes     int  `json:"processes" doc:"worker processes that run the module, so that its crash or hang costs the calls in it and not the service; 0: the service's own process does"`

	SelfTestEvery Duration `json:"selfTestEvery" doc:"how often the known-answer tests are repeated, besides those at each start; 0s: every day"`

	Tokens []TokenConfig `json:"tokens" doc:"several tokens instead of the one above, which is left out then"`
	Roles  RolesConfig   `json:"roles" doc:"which of several tokens, by name, holds which keys; left out where all others are replicas of one"`
}

// TokenConfig is one of several tokens.
type TokenConfig struct {
	Name          string `json:"name" doc:"what it is called here, in the log and in the metrics: 1 to 32 letters, digits, '.', '_' and '-'"`
	Module        string `json:"module" doc:"path of its PKCS#11 module; empty: SoftHSM2 where the distribution puts it"`
	Token         string `json:"token" doc:"its label, or a PKCS#11 URI (RFC 7512) without a PIN"`
	PINFile       string `json:"pinFile" doc:"file with its user PIN, mode 0600; outside of the data folder, or credential:NAME"`
	SoftHSMConf   string `json:"softhsmConf" doc:"SOFTHSM2_CONF for SoftHSM2; a process has one for each module, so tokens of one module with others need worker processes"`
	Workers       int    `json:"workers" doc:"sessions that sign at the same time, in each process; 0: near the number of cores"`
	SessionCopies bool   `json:"sessionCopies" doc:"sign with copies of the keys in the sessions' memory; true where it is left out"`
	Processes     int    `json:"processes" doc:"worker processes that run its module; 0: the service's own process does"`
	Offline       bool   `json:"offline" doc:"it is only plugged in when it is needed; for a token that holds the CA alone"`
	ReplicaOf     string `json:"replicaOf" doc:"name of the token whose keys it holds, too: it takes over when that one is down. Cloning the keys is the device's business"`
}

// RolesConfig says which token holds which keys. Each token has a canary of its own.
type RolesConfig struct {
	CA      string `json:"ca" doc:"the key that signs certificates"`
	TSA     string `json:"tsa" doc:"the key that signs time-stamps"`
	Ledger  string `json:"ledger" doc:"the key that signs checkpoints"`
	Closing string `json:"closing" doc:"the key that closes records"`
	Sealing string `json:"sealing" doc:"the key that seals for the first service"`
	Signers string `json:"signers" doc:"the keys of people and of further services"`
}

// roleOfSigners is the role of all keys that are not the service's own.
const roleOfSigners = "signers"

// hsmRole is a part that a token can play.
type hsmRole struct {
	name   string
	token  string      // as the configuration names it
	prefix string      // of the labels of its keys; the one without gets all others
	probe  keystore.ID // a label that it could have
}

func (r RolesConfig) all() []hsmRole {
	return []hsmRole{
		{keyCA, r.CA, "ca-", "ca-1"}, {keyTSA, r.TSA, "tsa-", "tsa-1"}, {keyLedger, r.Ledger, "ledger-", "ledger-1"},
		{keyClosing, r.Closing, "closing-", "closing-1"}, {keySealing, r.Sealing, "sealing-", "sealing-1"}, {roleOfSigners, r.Signers, "", "signer-1"},
	}
}

// UnmarshalJSON starts from the defaults of a token, and refuses unknown keys.
func (t *TokenConfig) UnmarshalJSON(b []byte) error {
	type plain TokenConfig
	v := plain{SessionCopies: true, Processes: DefaultProcesses}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return fmt.Errorf("hsm.tokens: %w", err)
	}
	*t = TokenConfig(v)
	return nil
}

// settle leaves the defaults of one token out where there are several.
func (h *HSMConfig) settle() {
	if len(h.Tokens) == 0 {
		h.Tokens = nil
		return
	}
	d := DefaultConfig().HSM
	if h.Token == d.Token {
		h.Token = ""
	}
	if h.PINFile == d.PINFile {
		h.PINFile = ""
	}
	if h.SoftHSMConf == d.SoftHSMConf {
		h.SoftHSMConf = ""
	}
	if h.Processes == d.Processes {
		h.Processes = 0
	}
	h.SessionCopies = false
}

// All returns the tokens, also where there is one.
func (h HSMConfig) All() []TokenConfig {
	if len(h.Tokens) > 0 {
		return slices.Clone(h.Tokens)
	}
	name := h.Token
	if strings.HasPrefix(name, "pkcs11:") || name == "" {
		name = "hsm"
	}
	return []TokenConfig{{
		Name: name, Module: h.Module, Token: h.Token, PINFile: h.PINFile, SoftHSMConf: h.SoftHSMConf, Workers: h.Workers,
		SessionCopies: h.SessionCopies, Processes: h.Processes,
	}}
}

// RolesOf returns what a token is for, in a fixed order: what the token that it is a replica of is for.
func (h HSMConfig) RolesOf(t TokenConfig) []string {
	name := t.Name
	if t.ReplicaOf != "" {
		name = t.ReplicaOf
	}
	primaries := h.primaries()
	var roles []string
	for _, r := range h.Roles.all() {
		if r.token == name || r.token == "" && len(primaries) == 1 {
			roles = append(roles, r.name)
		}
	}
	return roles
}

// primaries are the tokens that are no replicas.
func (h HSMConfig) primaries() []TokenConfig {
	return slices.DeleteFunc(h.All(), func(t TokenConfig) bool { return t.ReplicaOf != "" })
}

// replicas are the tokens that hold the keys of another.
func (h HSMConfig) replicas(of string) []TokenConfig {
	return slices.DeleteFunc(h.All(), func(t TokenConfig) bool { return t.ReplicaOf != of })
}

// ordered are the tokens in the order in which the key store reports them.
func (h HSMConfig) ordered() []TokenConfig {
	var all []TokenConfig
	for _, t := range h.primaries() {
		all = append(append(all, t), h.replicas(t.Name)...)
	}
	return all
}

// validate checks the tokens and their roles.
func (h HSMConfig) validate(c Config, bad func(key, format string, args ...any) error) error {
	if h.SelfTestEvery < 0 {
		return bad("hsm.selfTestEvery", "%v; use a duration such as 24h", time.Duration(h.SelfTestEvery))
	}
	if len(h.Tokens) == 0 {
		if h.Roles != (RolesConfig{}) {
			return bad("hsm.roles", "there is one token, which holds all keys; leave the roles out, or name the tokens in hsm.tokens")
		}
		return h.All()[0].validate("hsm", c, bad)
	}
	if len(h.Tokens) > maxTokens {
		return bad("hsm.tokens", "there are %d; at most %d", len(h.Tokens), maxTokens)
	}
	one := h
	one.Tokens, one.Roles = nil, RolesConfig{}
	if one.Module != "" || one.Token != "" || one.PINFile != "" || one.SoftHSMConf != "" || one.Workers != 0 || one.Processes != 0 {
		return bad("hsm", "a token is named both in hsm itself and in hsm.tokens; leave one of them out")
	}
	for i, t := range h.Tokens {
		key := fmt.Sprintf("hsm.tokens[%d]", i)
		if err := keystore.ID(t.Name).Validate(); err != nil || len(t.Name) > 32 {
			return bad(key+".name", "%q; use 1 to 32 letters, digits, '.', '_' and '-', the first one a letter or a digit", t.Name)
		}
		if slices.IndexFunc(h.Tokens, func(o TokenConfig) bool { return o.Name == t.Name }) != i {
			return bad(key+".name", "%q names a second token", t.Name)
		}
		if err := t.validate(key, c, bad); err != nil {
			return err
		}
		if t.ReplicaOf == "" {
			continue
		}
		j := slices.IndexFunc(h.Tokens, func(o TokenConfig) bool { return o.Name == t.ReplicaOf })
		switch {
		case j < 0:
			return bad(key+".replicaOf", "there is no token %q", t.ReplicaOf)
		case h.Tokens[j].ReplicaOf != "" || j == i:
			return bad(key+".replicaOf", "%q is a replica itself; name the token that both hold the keys of", t.ReplicaOf)
		case t.Offline || h.Tokens[j].Offline:
			return bad(key+".replicaOf", "a token that is only plugged in when it is needed has no replica in the service; keep its clone in another safe")
		}
	}
	return h.validateRoles(bad)
}

func (h HSMConfig) validateRoles(bad func(key, format string, args ...any) error) error {
	primaries := h.primaries()
	if len(primaries) == 1 && h.Roles == (RolesConfig{}) {
		h.Roles = RolesConfig{CA: primaries[0].Name, TSA: primaries[0].Name, Ledger: primaries[0].Name, Closing: primaries[0].Name, Sealing: primaries[0].Name, Signers: primaries[0].Name}
	}
	used := map[string]bool{}
	for _, r := range h.Roles.all() {
		key := "hsm.roles." + r.name
		i := slices.IndexFunc(h.Tokens, func(t TokenConfig) bool { return t.Name == r.token })
		switch {
		case r.token == "":
			return bad(key, "is missing; name the token that holds these keys")
		case i < 0:
			return bad(key, "there is no token %q", r.token)
		case h.Tokens[i].ReplicaOf != "":
			return bad(key, "%q is a replica; name %q, and both have it", r.token, h.Tokens[i].ReplicaOf)
		case h.Tokens[i].Offline && r.name != keyCA:
			return bad(key, "%q is only plugged in when it is needed, and these keys are needed all the time", r.token)
		}
		used[r.token] = true
	}
	for i, t := range h.Tokens {
		if t.ReplicaOf == "" && !used[t.Name] {
			return bad(fmt.Sprintf("hsm.tokens[%d]", i), "%q holds no keys: give it one of the hsm.roles, say what it is a replica of, or leave it out", t.Name)
		}
	}
	return nil
}

func (t TokenConfig) validate(key string, c Config, bad func(key, format string, args ...any) error) error {
	if t.Token == "" {
		return bad(key+".token", "is empty; name the token")
	}
	if t.PINFile == "" {
		return bad(key+".pinFile", "is empty; name a file with the PIN, or credential:NAME")
	}
	// What a URI says is checked by who opens it. A PIN in it must not get as far as the log.
	if strings.Contains(t.Token, "pin-value") || strings.Contains(t.Token, "pin-source") {
		return bad(key+".token", "the PKCS#11 URI says something about the PIN; leave it out, and use pinFile")
	}
	if c.Environment == Production && !strings.HasPrefix(t.PINFile, "credential:") {
		inside, err := within(c.DataDir, c.Path(t.PINFile))
		if err != nil {
			return bad(key+".pinFile", "%v", err)
		}
		if inside {
			return bad(key+".pinFile", "lies in the data folder, which production refuses: who has the folder would have the keys; use credential:NAME (systemd LoadCredential) or a file elsewhere")
		}
	}
	if t.Workers < 0 {
		return bad(key+".workers", "%d; use 0 or more", t.Workers)
	}
	if t.Processes < 0 || t.Processes > maxProcesses {
		return bad(key+".processes", "%d; use 0 to %d", t.Processes, maxProcesses)
	}
	return nil
}

// StoreOptions are those of the key store on the tokens. Recorded, if not nil, tells which attributes the ledger has of a key.
func (h HSMConfig) StoreOptions(recorded *Recorded) keystore.Options {
	o := keystore.Options{SelfTestEvery: time.Duration(h.SelfTestEvery)}
	if recorded != nil {
		o.Recorded = recorded.Attributes
	}
	return o
}

// OpenToken opens one token of the configuration.
type OpenToken func(context.Context, TokenConfig) (keystore.Token, error)

// OpenTokens opens the tokens of the configuration and makes one of them. A token that is only plugged in when it is needed is opened at its first
// use. Of replicas one has to be there; the others are opened when they have come.
func (h HSMConfig) OpenTokens(ctx context.Context, open OpenToken) (_ keystore.Token, err error) {
	var opened []keystore.Token
	defer func() {
		for _, t := range opened {
			if err != nil {
				err = errors.Join(err, t.Close())
			}
		}
	}()
	var rules []keystore.Rule
	for _, p := range h.primaries() {
		var token keystore.Token
		if p.Offline {
			token, err = keystore.Lazy(keystore.LazyConfig{
				Name: fmt.Sprintf("the token %q", p.Name),
				Open: func(ctx context.Context) (keystore.Token, error) { return open(ctx, p) },
			})
			if err != nil {
				return nil, err
			}
			opened = append(opened, token)
		} else if token, err = openReplicas(ctx, append([]TokenConfig{p}, h.replicas(p.Name)...), open, &opened); err != nil {
			return nil, err
		}
		rule := keystore.Rule{Token: token}
		roles := h.RolesOf(p)
		for _, r := range h.Roles.all() {
			if slices.Contains(roles, r.name) {
				rule.Prefixes = append(rule.Prefixes, r.prefix)
			}
		}
		rules = append(rules, rule)
	}
	if len(rules) == 1 {
		return rules[0].Token, nil
	}
	return keystore.Route(rules...)
}

func openReplicas(ctx context.Context, configs []TokenConfig, open OpenToken, opened *[]keystore.Token) (keystore.Token, error) {
	tokens, failed := make([]keystore.Token, len(configs)), make([]error, len(configs))
	there := 0
	for i, c := range configs {
		if tokens[i], failed[i] = open(ctx, c); failed[i] == nil {
			*opened = append(*opened, tokens[i])
			there++
			continue
		}
		failed[i] = fmt.Errorf("token %q: %w", c.Name, failed[i])
		if !errors.Is(failed[i], keystore.ErrUnavailable) && !errors.Is(failed[i], keystore.ErrPIN) || ctx.Err() != nil {
			return nil, failed[i]
		}
	}
	if there == 0 {
		return nil, errors.Join(failed...)
	}
	for i, c := range configs {
		if failed[i] != nil {
			tokens[i] = newLateToken(c, open, failed[i])
			*opened = append(*opened, tokens[i])
		}
	}
	if len(tokens) == 1 {
		return tokens[0], nil
	}
	return keystore.Replicas(keystore.ReplicasConfig{}, tokens...)
}

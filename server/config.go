package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/signetd/signet/api/jcs"
	"github.com/signetd/signet/server/internal/identity"
)

// Environments. Every record names the one it was made in, so whoever reads a demo signature sees that it is one.
const (
	Production = "production"
	Validation = "validation"
	Demo       = "demo"
)

// Config is the whole configuration of signetd. Zero values of optional fields mean the defaults of [DefaultConfig].
// The `doc` tags are the reference: `signetd config print` writes them beside the effective values.
type Config struct {
	Environment  string         `json:"environment" doc:"production, validation or demo; stands in every record. In production a PIN in the data folder is refused"`
	SystemAccess string         `json:"systemAccess" doc:"closed: those who answer for the records control who has access to the system; open: they do not (21 CFR 11.3). Stands in every record, so it must be said, except in a demo (closed). Open refuses everything that would leave without encryption (21 CFR 11.30)"`
	DataDir      string         `json:"dataDir" doc:"folder of the ledger, the blobs and (in a demo) the token; relative paths below are relative to it"`
	Issuer       string         `json:"issuer" doc:"URL of this service; certificates name signers below it"`
	Organisation string         `json:"organisation" doc:"organisation in certificates and statements"`
	Listen       ListenConfig   `json:"listen" doc:"the gRPC listener (TLS 1.3)"`
	Ledger       LedgerConfig   `json:"ledger" doc:"the ledger"`
	HSM          HSMConfig      `json:"hsm" doc:"the PKCS#11 tokens that hold the keys"`
	Identity     IdentityConfig `json:"identity" doc:"sessions, passwords, lockout"`
	Rights       RightsConfig   `json:"rights" doc:"who may do what"`
	Signing      SigningConfig  `json:"signing" doc:"the ceremony"`
	Timestamp    TSAConfig      `json:"timestamp" doc:"the built-in time-stamping authority (RFC 3161)"`

	Certificates CertificatesConfig `json:"certificates" doc:"the CA's revocation lists, and certificates that lapse"`

	Limits   LimitsConfig   `json:"limits" doc:"bounds on what callers send"`
	Log      LogConfig      `json:"log" doc:"the log on standard error"`
	Web      WebConfig      `json:"web" doc:"what is read over HTTPS"`
	Services ServicesConfig `json:"services" doc:"programs that call: how they prove themselves, how much they may ask for"`
	Network  NetworkConfig  `json:"network" doc:"from where the server is called, and how much of it"`
	Alerts   AlertsConfig   `json:"alerts" doc:"who hears of attacks, and how (21 CFR 11.300(d))"`
	Metrics  MetricsConfig  `json:"metrics" doc:"figures for Prometheus"`
	Pages    PagesConfig    `json:"pages" doc:"the signing pages for people's browsers"`
}

// ListenConfig is where the server listens.
type ListenConfig struct {
	Address     string `json:"address" doc:"host:port"`
	Certificate string `json:"certificate" doc:"server certificate chain, PEM"`
	Key         string `json:"key" doc:"its private key, PEM, mode 0600"`
}

// LedgerConfig names the ledger.
type LedgerConfig struct {
	Origin   string         `json:"origin" doc:"origin line of the checkpoints and name of the ledger's key (C2SP tlog-checkpoint); never changes"`
	Scrub    ScrubConfig    `json:"scrub" doc:"reading everything that is stored again, byte for byte"`
	Brackets BracketsConfig `json:"brackets" doc:"time-stamps of checkpoints: each entry lies between two of them"`
	Archive  ArchiveConfig  `json:"archive" doc:"where old entries go when the ledger's file shall grow no more"`
	Index    IndexConfig    `json:"index" doc:"the index over all entries, by which they are found and proved to be complete"`
	Witness  WitnessConfig  `json:"witness" doc:"who cosigns checkpoints, so that the ledger shows everybody the same entries"`
	Rollback RollbackConfig `json:"rollback" doc:"what must vouch at the start that the ledger is not an older copy"`
}

// IdentityConfig bounds sessions and guesses.
type IdentityConfig struct {
	SessionIdle     Duration `json:"sessionIdle" doc:"a session ends after this long without a call, at most 1h in production"`
	SessionLifetime Duration `json:"sessionLifetime" doc:"a session ends after this long whatever happens, at most 24h in production"`
	CodeLifetime    Duration `json:"codeLifetime" doc:"a one-time enrolment code lapses after this long, at most 24h in production"`
	LockAfter       int      `json:"lockAfter" doc:"wrong passwords in a row until a name is locked for the network that they come from, or a session for signing; at most 100 in production"`
	LockFor         Duration `json:"lockFor" doc:"how long it is locked, the first time; each further lock in a row lasts twice as long, up to a day"`

	Lockout LockoutConfig `json:"lockout" doc:"what else bounds guesses"`

	PasswordChecks int `json:"passwordChecks" doc:"password checks at the same time; the rest queues. They take up to twice this many times passwordMemory"`
	PasswordMemory int `json:"passwordMemory" doc:"memory of a password check (argon2id), in MiB"`
	PasswordPasses int `json:"passwordPasses" doc:"passes of a password check (argon2id)"`
	MinPassword    int `json:"minPassword" doc:"least length of a password, in characters"`

	MinPasswordWithFactor int      `json:"minPasswordWithFactor" doc:"least length of the password of who has set up one-time passwords, in characters"`
	PasswordAge           Duration `json:"passwordAge" doc:"after this long a password only serves to set another one; 0s: passwords do not age, as NIST SP 800-63B advises"`
	TestEvery             Duration `json:"testEvery" doc:"a passkey that was neither used nor tested for this long signs nothing until its owner has tested it, and the security unit hears of every credential that old (21 CFR 11.300(e)); 0s: never, and not in production"`
	Blocklist             string   `json:"blocklist" doc:"file with passwords that nobody may set, one a line, besides those that are built in; empty: none"`

	Preset            string           `json:"preset" doc:"part11: every signature takes user name and password, and what else a policy demands; open: a passkey alone may sign where a policy says so"`
	Requires          string           `json:"requires" doc:"components that every signature of a person takes at least, whatever its policy: password, password+totp, passkey or password+passkey"`
	ContinuousSigning ContinuousConfig `json:"continuousSigning" doc:"the period of controlled access in which only the first signing takes all components (21 CFR 11.200(a)(1)(i)); broken by idling, logout, restart, and a change of address, device or credential"`

	Sources string `json:"sources" doc:"addresses and devices of callers: keep stores them beside the ledger, where they can be erased; commitment-only never stores them (refused in production)"`

	FourEyes         string   `json:"fourEyes" doc:"auto: what gives somebody a right takes two administrators, from the moment on which there are two; off: never (not in production)"`
	ProposalLifetime Duration `json:"proposalLifetime" doc:"what one administrator has proposed lapses after this long, if no other one confirms it"`
	LetterReference  string   `json:"letterReference" doc:"reference of the organisation's letter to the agency that electronic signatures are meant to be binding (21 CFR 11.100(c)); empty: none was sent"`
}

// SigningConfig bounds the ceremony.
type SigningConfig struct {
	PreparationLifetime Duration `json:"preparationLifetime" doc:"a prepared statement lapses after this long, at most 1h in production"`
}

// TSAConfig is what the time-stamp tokens say.
type TSAConfig struct {
	Policy     string              `json:"policy" doc:"policy OID of the tokens; the default lies in the arc for examples: put your organisation's own"`
	Accuracy   Duration            `json:"accuracy" doc:"stated accuracy of the clock, at most 1s"`
	Web        bool                `json:"web" doc:"whether everybody who reaches web.address may have time-stamps: POST /tsa (RFC 3161 over HTTPS)"`
	Clock      ClockConfig         `json:"clock" doc:"who vouches for the clock"`
	Signatures StampsConfig        `json:"signatures" doc:"who time-stamps signatures beside the built-in authority"`
	External   []ExternalTSAConfig `json:"external" doc:"authorities of others, which time-stamp checkpoints beside the built-in one"`
}

// LimitsConfig bounds what callers send.
type LimitsConfig struct {
	MessageBytes  int   `json:"messageBytes" doc:"largest gRPC message"`
	DocumentBytes int64 `json:"documentBytes" doc:"largest bundle document or manifest in a stream"`
	Calls         int   `json:"calls" doc:"calls in progress at the same time on one connection"`
}

// LogConfig is how the log looks.
type LogConfig struct {
	Level  string `json:"level" doc:"debug, info, warn or error"`
	Format string `json:"format" doc:"text or json"`
}

// MetricsConfig is where metrics are read.
type MetricsConfig struct {
	Address string `json:"address" doc:"host:port of a listener of its own for GET /metrics, plain HTTP: keep it to the loopback or to a network of yours; empty: none"`
}

// Duration is a time.Duration that reads and writes as `5m0s`.
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 5m or 1h30m", b)
	}
	*d = Duration(v)
	return nil
}

// DefaultConfig returns the configuration that a file starts from.
func DefaultConfig() Config {
	return Config{
		Environment:  Production,
		DataDir:      "var",
		Issuer:       "https://localhost:8443",
		Organisation: "Example Medical",
		Listen:       ListenConfig{Address: "127.0.0.1:8443", Certificate: "tls/server.pem", Key: "tls/server-key.pem"},
		Ledger:       LedgerConfig{Origin: "localhost/ledger", Archive: defaultArchive(), Scrub: defaultScrub(), Brackets: defaultBrackets(), Index: defaultIndex(), Rollback: defaultRollback(), Witness: defaultWitness()},
		HSM:          HSMConfig{Token: "signet", PINFile: "token/user.pin", SoftHSMConf: "token/softhsm2.conf", SessionCopies: true, Processes: DefaultProcesses, SelfTestEvery: Duration(24 * time.Hour)},
		Rights:       defaultRights(),
		Identity: IdentityConfig{
			FourEyes: string(identity.FourEyesAuto), ProposalLifetime: Duration(7 * 24 * time.Hour),
			SessionIdle: Duration(15 * time.Minute), SessionLifetime: Duration(12 * time.Hour), CodeLifetime: Duration(10 * time.Minute),
			LockAfter: 5, LockFor: Duration(15 * time.Minute), Lockout: defaultLockout(), PasswordChecks: 2, PasswordMemory: 64, PasswordPasses: 3, MinPassword: 15, Sources: string(identity.SourcesKeep),
			MinPasswordWithFactor: 8, TestEvery: Duration(180 * day), Preset: PresetPart11, Requires: "password",
			ContinuousSigning: ContinuousConfig{Idle: Duration(5 * time.Minute), Longest: Duration(time.Hour)},
		},
		Signing:   SigningConfig{PreparationLifetime: Duration(5 * time.Minute)},
		Timestamp: TSAConfig{Policy: "2.999.3161.1", Accuracy: Duration(time.Second), Clock: defaultClock(), Signatures: defaultStamps(), External: []ExternalTSAConfig{}},
		Limits:    LimitsConfig{MessageBytes: 4 << 20, DocumentBytes: 64 << 20, Calls: 256},
		Alerts:    defaultAlerts(), Certificates: defaultCertificates(),
		Log:      LogConfig{Level: "info", Format: "text"},
		Services: defaultServices(), Network: defaultNetwork(),
	}
}

// ErrConfig is wrapped by every error about the configuration.
var ErrConfig = errors.New("configuration")

// LoadConfig reads a YAML file over the defaults, and checks the values. Unknown and duplicate keys are refused.
func LoadConfig(path string) (Config, error) {
	c, err := ReadConfig(path)
	if err != nil {
		return Config{}, err
	}
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// ReadConfig is LoadConfig without a check of the values: they are not all there yet.
func ReadConfig(path string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("%w: %w; `signetd init` makes one", ErrConfig, err)
	}
	c := DefaultConfig()
	if err := yaml.UnmarshalStrict(b, &c); err != nil {
		return Config{}, fmt.Errorf("%w: %s: %w; `signetd config print` shows every key", ErrConfig, path, err)
	}
	if !filepath.IsAbs(c.DataDir) {
		c.DataDir = filepath.Join(filepath.Dir(path), c.DataDir)
	}
	c.HSM.settle()
	return c, nil
}

// Validate checks the values.
func (c Config) Validate() error {
	bad := func(key, format string, args ...any) error {
		return fmt.Errorf("%w: %s: "+format, append([]any{ErrConfig, key}, args...)...)
	}
	switch c.Environment {
	case Production, Validation, Demo:
	default:
		return bad("environment", "%q; use production, validation or demo", c.Environment)
	}
	if c.DataDir == "" {
		return bad("dataDir", "is empty; name a folder")
	}
	if u, err := url.Parse(c.Issuer); err != nil || u.Scheme != "https" || u.Host == "" || strings.HasSuffix(c.Issuer, "/") || u.RawQuery != "" || u.Fragment != "" {
		return bad("issuer", "%q; use an https URL without a slash at the end", c.Issuer)
	}
	if c.Organisation == "" {
		return bad("organisation", "is empty; certificates name it")
	}
	if _, _, err := net.SplitHostPort(c.Listen.Address); err != nil {
		return bad("listen.address", "%q; use host:port", c.Listen.Address)
	}
	if c.Ledger.Origin == "" || strings.ContainsAny(c.Ledger.Origin, " \t\n+") {
		return bad("ledger.origin", "%q; use a name such as sign.example/ledger, without spaces and plus signs", c.Ledger.Origin)
	}
	if err := errors.Join(c.Ledger.Scrub.validate(c.Environment, bad), c.Ledger.Brackets.validate(c.Timestamp.External, bad), c.Timestamp.Clock.validate(bad), c.Timestamp.Signatures.validate(c.Timestamp.External, bad)); err != nil {
		return err
	}
	if err := c.validateCredentials(bad); err != nil {
		return err
	}
	if err := c.Ledger.Archive.validate(bad); err != nil {
		return err
	}
	if err := c.Ledger.Index.validate(bad); err != nil {
		return err
	}
	if err := c.Ledger.Rollback.validate(c.Ledger.Witness.Policy != "", bad); err != nil {
		return err
	}
	if err := c.Ledger.Witness.validate(bad); err != nil {
		return err
	}
	if err := c.HSM.validate(c, bad); err != nil {
		return err
	}
	for key, d := range map[string]Duration{
		"identity.sessionIdle": c.Identity.SessionIdle, "identity.sessionLifetime": c.Identity.SessionLifetime, "identity.codeLifetime": c.Identity.CodeLifetime,
		"identity.lockFor": c.Identity.LockFor, "identity.lockout.delay": c.Identity.Lockout.Delay, "signing.preparationLifetime": c.Signing.PreparationLifetime, "timestamp.accuracy": c.Timestamp.Accuracy,
	} {
		if d <= 0 {
			return bad(key, "%v; use a duration above zero", time.Duration(d))
		}
	}
	if err := c.validateGuessing(bad); err != nil {
		return err
	}
	if time.Duration(c.Timestamp.Accuracy) > time.Second {
		return bad("timestamp.accuracy", "%v; verifiers accept at most 1s", time.Duration(c.Timestamp.Accuracy))
	}
	for key, n := range map[string]int64{
		"identity.lockAfter": int64(c.Identity.LockAfter), "identity.lockout.name": int64(c.Identity.Lockout.Name),
		"identity.lockout.network": int64(c.Identity.Lockout.Network), "identity.lockout.flood": int64(c.Identity.Lockout.Flood),
		"identity.passwordChecks": int64(c.Identity.PasswordChecks),
		"limits.messageBytes":     int64(c.Limits.MessageBytes), "limits.documentBytes": c.Limits.DocumentBytes, "limits.calls": int64(c.Limits.Calls),
	} {
		if n <= 0 {
			return bad(key, "%d; use a number above zero", n)
		}
	}
	if err := c.Rights.validate(bad); err != nil {
		return err
	}
	if err := c.Identity.validateEnrolment(c.Environment, bad); err != nil {
		return err
	}
	if c.Identity.MinPassword < 15 && c.Environment == Production {
		return bad("identity.minPassword", "%d; a password that stands alone has at least 15 characters (NIST SP 800-63B)", c.Identity.MinPassword)
	}
	if c.Identity.MinPassword < 8 {
		return bad("identity.minPassword", "%d; at least 8", c.Identity.MinPassword)
	}
	if c.Identity.PasswordMemory < 8 || c.Environment == Production && c.Identity.PasswordMemory < 64 || c.Identity.PasswordMemory > 4096 {
		return bad("identity.passwordMemory", "%d MiB; use 64 to 4096 (8 or more outside of production)", c.Identity.PasswordMemory)
	}
	if c.Identity.PasswordPasses < 1 || c.Environment == Production && c.Identity.PasswordPasses < 3 || c.Identity.PasswordPasses > 64 {
		return bad("identity.passwordPasses", "%d; use 3 to 64 (1 or more outside of production)", c.Identity.PasswordPasses)
	}
	if err := c.Pages.validate(c.Environment, bad); err != nil {
		return err
	}
	if s := identity.Sources(c.Identity.Sources); s != identity.SourcesKeep && (s != identity.SourcesCommitmentOnly || c.Environment == Production) {
		return bad("identity.sources", "%q; use keep (in production, the source of what people sign is kept: 21 CFR 11.10(h)), or commitment-only", c.Identity.Sources)
	}
	if err := errors.Join(c.Services.validate(bad), c.Network.validate(bad), c.Certificates.validate(bad)); err != nil {
		return err
	}
	if err := errors.Join(c.Web.validate(bad), c.Alerts.validate(c.Environment, bad)); err != nil {
		return err
	}
	if c.Metrics.Address != "" {
		if _, _, err := net.SplitHostPort(c.Metrics.Address); err != nil {
			return bad("metrics.address", "%q; use host:port, or leave it empty", c.Metrics.Address)
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
	return c.validateAccess(bad)
}

// Path resolves a path of the configuration: relative ones lie in the data folder.
func (c Config) Path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(c.DataDir, p)
}

// Digest is the SHA-256, in hex, of the configuration in canonical JSON. Each record names it (21 CFR 11.10(k)). The data
// folder is left out: moving it changes nothing that is signed.
func (c Config) Digest() (string, error) {
	c.DataDir = ""
	b, err := jcs.Marshal(c)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

func within(dir, path string) (bool, error) {
	real := func(p string) (string, error) {
		p, err := filepath.Abs(p)
		if err != nil {
			return "", err
		}
		for at, rest := p, ""; ; at, rest = filepath.Dir(at), filepath.Join(filepath.Base(at), rest) { // what is not there yet leads nowhere else
			if r, err := filepath.EvalSymlinks(at); err == nil || at == filepath.Dir(at) {
				return filepath.Join(r, rest), nil
			}
		}
	}
	d, err := real(dir)
	if err != nil {
		return false, err
	}
	p, err := real(path)
	if err != nil {
		return false, err
	}
	rel, err := filepath.Rel(d, p)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)), nil
}

// YAML writes the configuration with a comment on each key.
func (c Config) YAML() []byte {
	var b bytes.Buffer
	writeYAML(&b, reflect.ValueOf(c), "")
	return b.Bytes()
}

func writeYAML(b *bytes.Buffer, v reflect.Value, indent string) {
	for i := range v.NumField() {
		f, key := v.Field(i), v.Type().Field(i)
		fmt.Fprintf(b, "%s# %s.\n%s%s:", indent, key.Tag.Get("doc"), indent, key.Tag.Get("json"))
		if f.Kind() == reflect.Struct {
			b.WriteByte('\n')
			writeYAML(b, f, indent+"  ")
			continue
		}
		if f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct && f.Len() > 0 {
			b.WriteByte('\n')
			for i := range f.Len() {
				fmt.Fprintf(b, "%s  -\n", indent)
				writeYAML(b, f.Index(i), indent+"    ")
			}
			continue
		}
		if f.Kind() == reflect.Slice && f.Len() == 0 {
			b.WriteString(" []\n")
			continue
		}
		if f.Kind() == reflect.Slice {
			b.WriteByte('\n')
			for i := range f.Len() {
				value, err := yaml.Marshal(f.Index(i).Interface())
				if err != nil { // strings and numbers
					value = []byte("\"\"\n")
				}
				fmt.Fprintf(b, "%s  - %s", indent, value)
			}
			continue
		}
		value, err := yaml.Marshal(f.Interface())
		if err != nil { // all other fields are strings, numbers and durations
			value = []byte("\"\"\n")
		}
		fmt.Fprintf(b, " %s", value)
	}
}

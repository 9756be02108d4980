package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "signetd.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigPrintReadsBack(t *testing.T) {
	want := DefaultConfig()
	want.Environment = Demo
	got, err := LoadConfig(writeConfig(t, string(want.YAML())))
	if err != nil {
		t.Fatal(err)
	}
	got.DataDir = want.DataDir
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}

func TestConfigRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"unknown key":          "environment: demo\ncolour: red\n",
		"unknown nested key":   "environment: demo\nhsm:\n  pin: 1234\n",
		"duplicate key":        "environment: demo\nenvironment: production\n",
		"unknown environment":  "environment: test\n",
		"PIN in data folder":   "environment: production\nsystemAccess: closed\n",
		"http issuer":          "environment: demo\nissuer: http://x\n",
		"negative duration":    "environment: demo\nsigning:\n  preparationLifetime: -1s\n",
		"not a duration":       "environment: demo\nsigning:\n  preparationLifetime: soon\n",
		"inaccurate":           "environment: demo\ntimestamp:\n  accuracy: 2s\n",
		"short passwords":      "environment: production\nsystemAccess: closed\nhsm:\n  pinFile: credential:pin\nidentity:\n  minPassword: 8\n",
		"cheap passwords":      "environment: production\nsystemAccess: closed\nhsm:\n  pinFile: credential:pin\nidentity:\n  passwordMemory: 8\n",
		"no lockout":           "environment: demo\nidentity:\n  lockAfter: 0\n",
		"address without port": "environment: demo\nlisten:\n  address: localhost\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := LoadConfig(writeConfig(t, text))
			if !errors.Is(err, ErrConfig) {
				t.Fatalf("got %v, want a configuration error", err)
			}
		})
	}
	if _, err := LoadConfig(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "signetd init") {
		t.Fatalf("a missing file: %v", err)
	}
}

func TestProductionAcceptsAPINElsewhere(t *testing.T) {
	for _, pin := range []string{"credential:pin", filepath.Join(t.TempDir(), "pin")} {
		c := DefaultConfig()
		c.DataDir, c.SystemAccess = t.TempDir(), "closed"
		c.HSM.PINFile = pin
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", pin, err)
		}
	}
}

// A configuration of several tokens: the CA on one that is plugged in, the rest on a pair.
const severalTokens = `environment: production
systemAccess: closed
metrics:
  address: 127.0.0.1:9464
hsm:
  tokens:
    - name: main
      module: /opt/hsm/libpkcs11.so
      token: signet
      pinFile: credential:main
      workers: 8
      processes: 2
    - name: root
      token: "pkcs11:token=root;serial=0042?module-path=/usr/lib/root.so"
      pinFile: credential:root
      sessionCopies: false
      offline: true
    - name: twin
      module: /opt/hsm/libpkcs11.so
      token: signet-2
      pinFile: credential:twin
      replicaOf: main
  roles:
    ca: root
    tsa: main
    ledger: main
    closing: main
    sealing: main
    signers: main
`

func TestSeveralTokens(t *testing.T) {
	c, err := LoadConfig(writeConfig(t, severalTokens))
	if err != nil {
		t.Fatal(err)
	}
	want := []TokenConfig{
		{Name: "main", Module: "/opt/hsm/libpkcs11.so", Token: "signet", PINFile: "credential:main", Workers: 8, SessionCopies: true, Processes: 2},
		{Name: "root", Token: "pkcs11:token=root;serial=0042?module-path=/usr/lib/root.so", PINFile: "credential:root", Processes: DefaultProcesses, Offline: true},
		{Name: "twin", Module: "/opt/hsm/libpkcs11.so", Token: "signet-2", PINFile: "credential:twin", SessionCopies: true, Processes: DefaultProcesses, ReplicaOf: "main"},
	}
	if d := cmp.Diff(want, c.HSM.All()); d != "" {
		t.Error(d)
	}
	if h := c.HSM; h.Token != "" || h.PINFile != "" || h.SoftHSMConf != "" {
		t.Errorf("the one token is still there: %+v", h)
	}
	if d := cmp.Diff([]string{"tsa", "ledger", "closing", "sealing", "signers"}, c.HSM.RolesOf(want[2])); d != "" {
		t.Errorf("roles of the replica: %s", d)
	}
	var order []string
	for _, token := range c.HSM.ordered() {
		order = append(order, token.Name)
	}
	if d := cmp.Diff([]string{"main", "twin", "root"}, order); d != "" {
		t.Error(d)
	}
	printed := string(c.YAML())
	again, err := LoadConfig(writeConfig(t, printed))
	if err != nil {
		t.Fatalf("%v\n%s", err, printed)
	}
	again.DataDir = c.DataDir
	if d := cmp.Diff(c, again); d != "" {
		t.Errorf("printed and read again: %s", d)
	}
	if !strings.Contains(printed, "# name of the token whose keys it holds, too") {
		t.Errorf("settings of tokens are not explained:\n%s", printed)
	}
}

func TestSeveralTokensRefused(t *testing.T) {
	for name, tc := range map[string]struct{ old, new, want string }{
		"unknown key":               {"workers: 8", "worker: 8", "worker"},
		"key twice":                 {"workers: 8", "workers: 8\n      workers: 9", "workers"},
		"a PIN in the data folder":  {"pinFile: credential:twin", "pinFile: token/user.pin", "hsm.tokens[2].pinFile"},
		"a PIN in a URI":            {"serial=0042?", "serial=0042?pin-value=s3cr3t&", "pinFile"},
		"no PIN":                    {"      pinFile: credential:twin\n", "", "hsm.tokens[2].pinFile"},
		"no token":                  {"      token: signet-2\n", "", "hsm.tokens[2].token"},
		"a name twice":              {"name: twin", "name: main", "second"},
		"no name":                   {"name: twin", `name: ""`, "hsm.tokens[2].name"},
		"a replica of nothing":      {"replicaOf: main", "replicaOf: man", `no token "man"`},
		"a replica of a replica":    {"replicaOf: main", "replicaOf: twin", "is a replica itself"},
		"a replica of the offline":  {"replicaOf: main", "replicaOf: root", "only plugged in"},
		"an offline replica":        {"replicaOf: main", "replicaOf: main\n      offline: true", "only plugged in"},
		"a token without keys":      {"      replicaOf: main\n", "", "holds no keys"},
		"a role on nothing":         {"tsa: main", "tsa: man", "hsm.roles.tsa"},
		"a role missing":            {"    tsa: main\n", "", "hsm.roles.tsa"},
		"a role on a replica":       {"tsa: main", "tsa: twin", "is a replica"},
		"a role on the offline":     {"tsa: main", "tsa: root", "needed all the time"},
		"an unknown role":           {"tsa: main", "tas: main", "tas"},
		"another token beside them": {"hsm:\n", "hsm:\n  module: /opt/other.so\n", "both in hsm itself"},
		"too many processes":        {"processes: 2", "processes: 17", "hsm.tokens[0].processes"},
		"negative workers":          {"workers: 8", "workers: -1", "hsm.tokens[0].workers"},
		"an impossible interval":    {"hsm:\n", "hsm:\n  selfTestEvery: -1s\n", "hsm.selfTestEvery"},
		"metrics without a port":    {"127.0.0.1:9464", "127.0.0.1", "metrics.address"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(severalTokens, tc.old, tc.new, 1)
			if text == severalTokens {
				t.Fatal("nothing was changed")
			}
			_, err := LoadConfig(writeConfig(t, text))
			if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v", err)
			}
			if strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("the error tells the PIN: %v", err)
			}
		})
	}
	t.Run("roles of one token", func(t *testing.T) {
		_, err := LoadConfig(writeConfig(t, "environment: demo\nhsm:\n  roles:\n    ca: signet\n"))
		if !errors.Is(err, ErrConfig) {
			t.Fatalf("got %v", err)
		}
	})
}

// Package modules gives tests PKCS#11 modules other than SoftHSM, each with a token of its own: what a key store does must
// not only be right with the one that it was written beside.
//
// [NSS] is the softokn of Mozilla's NSS. It is a good adversary: it copies an unextractable key into one that is
// extractable and wraps it, and says that its own keys were not made in it. Signet must refuse signers' keys in it.
package modules

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	wrapper "github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/pkcs11"
)

// PIN is the user PIN of the tokens.
const PIN = "user-1234"

//go:embed nss/nss.c
var nssSource string

// A module is loaded once a process and never unloaded, so it is built once and the file can go.
var nss = sync.OnceValues(func() (module string, err error) {
	folder, err := os.MkdirTemp("", "signet-nss-")
	if err != nil {
		return "", err
	}
	source := filepath.Join(folder, "nss.c")
	if err := os.WriteFile(source, []byte(nssSource), 0o600); err != nil {
		return "", err
	}
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	module = filepath.Join(folder, "nss.so")
	if out, err := exec.Command(compiler, "-shared", "-fPIC", "-O1", "-o", module, source, "-ldl").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", compiler, err, out)
	}
	return module, nil
})

// NSS makes an empty token of NSS's softokn and returns how to open it. The module has one database at a time, named by the
// environment: close the token before another one is made, and run no such tests in parallel.
func NSS(t testing.TB) pkcs11.Config {
	t.Helper()
	module, err := nss()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NSS_LIB_PARAMS", fmt.Sprintf("configdir='sql:%s' certPrefix='' keyPrefix='' secmod='secmod.db' flags= dbTokenDescription='signet' ",
		t.TempDir()))
	if err := nssPIN(module); err != nil {
		t.Fatalf("NSS softokn (Debian: libnss3): %v", err)
	}
	return pkcs11.Config{Module: module, TokenLabel: "signet", PIN: keystore.PINFixed(keystore.NewSecret(PIN))}
}

// nssPIN sets the PIN of a new database, whose security officer has an empty one.
func nssPIN(module string) error {
	ctx := wrapper.New(module)
	if ctx == nil {
		return fmt.Errorf("%s cannot be loaded", module)
	}
	if err := ctx.Initialize(); err != nil {
		return fmt.Errorf("C_Initialize: %w", err)
	}
	err := func() error {
		const database = 2 // its slot; the other one holds nothing
		session, err := ctx.OpenSession(database, wrapper.CKF_SERIAL_SESSION|wrapper.CKF_RW_SESSION)
		if err != nil {
			return fmt.Errorf("C_OpenSession: %w", err)
		}
		if err := ctx.Login(session, wrapper.CKU_SO, ""); err != nil {
			return fmt.Errorf("C_Login: %w", err)
		}
		if err := ctx.InitPIN(session, PIN); err != nil {
			return fmt.Errorf("C_InitPIN: %w", err)
		}
		return nil
	}()
	if ferr := ctx.Finalize(); err == nil {
		err = ferr
	}
	return err
}

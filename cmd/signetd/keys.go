package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/pkcs11"
	"github.com/signetd/signet/server"
)

// module returns the path of the PKCS#11 module.
func module(c server.Config) (string, error) {
	if c.HSM.Module != "" {
		return c.HSM.Module, nil
	}
	return pkcs11.FindSoftHSM()
}

// pinSource says where the PIN comes from.
func pinSource(c server.Config) keystore.PINSource {
	if name, ok := strings.CutPrefix(c.HSM.PINFile, "credential:"); ok {
		return keystore.PINCredential(name)
	}
	return keystore.PINFile(c.Path(c.HSM.PINFile))
}

// openKeys opens the token of the configuration.
func openKeys(ctx context.Context, c server.Config) (*keystore.Store, error) {
	path, err := module(c)
	if err != nil {
		return nil, err
	}
	token, err := pkcs11.Open(ctx, pkcs11.Config{
		Module: path, TokenLabel: c.HSM.Token, PIN: pinSource(c), Sessions: c.HSM.Workers, SessionCopies: c.HSM.SessionCopies,
		SoftHSMConf: c.Path(c.HSM.SoftHSMConf),
	})
	if err != nil {
		return nil, fmt.Errorf("HSM: %w", err)
	}
	return keystore.New(token, keystore.Options{}), nil
}

// makeToken makes a SoftHSM2 token of the service's own in the data folder, with random PINs in files that only the owner can read.
func makeToken(ctx context.Context, c server.Config) error {
	path, err := module(c)
	if err != nil {
		return err
	}
	dir := filepath.Dir(c.Path(c.HSM.SoftHSMConf))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := pkcs11.WriteSoftHSMConf(c.Path(c.HSM.SoftHSMConf), filepath.Join(dir, "tokens")); err != nil {
		return fmt.Errorf("token: %w", err)
	}
	pin, so := rand.Text(), rand.Text()
	for file, secret := range map[string]string{c.Path(c.HSM.PINFile): pin, filepath.Join(dir, "so.pin"): so} {
		if err := writeSecret(file, secret); err != nil {
			return fmt.Errorf("token: %w", err)
		}
	}
	_, err = pkcs11.InitToken(ctx, pkcs11.InitConfig{
		Module: path, SoftHSMConf: c.Path(c.HSM.SoftHSMConf), Label: c.HSM.Token, SOPIN: keystore.NewSecret(so), PIN: keystore.NewSecret(pin),
	})
	if err != nil {
		return fmt.Errorf("token: %w", err)
	}
	return nil
}

// writeSecret writes a new file of mode 0600.
func writeSecret(path, secret string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(f, secret); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

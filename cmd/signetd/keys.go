package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/isolate"
	"github.com/signetd/signet/keystore/isolate/worker"
	"github.com/signetd/signet/keystore/pkcs11"
	"github.com/signetd/signet/server"
)

// hsmWorker is the hidden command that worker processes run.
const hsmWorker = "hsm-worker"

// tokenConfig says how to open a token.
func tokenConfig(c server.Config, t server.TokenConfig) (pkcs11.Config, error) {
	token := pkcs11.Config{
		Module: t.Module, PIN: pinSource(c, t.PINFile), Sessions: t.Workers, SessionCopies: t.SessionCopies, SoftHSMConf: c.Path(t.SoftHSMConf),
	}
	if strings.HasPrefix(t.Token, "pkcs11:") {
		token.URI = t.Token
		if u, err := pkcs11.ParseURI(t.Token); err != nil {
			return token, fmt.Errorf("%w: hsm: token %s: %w", server.ErrConfig, t.Name, err)
		} else if u.ModulePath != "" {
			return token, nil
		}
	} else {
		token.TokenLabel = t.Token
	}
	if token.Module == "" {
		path, err := pkcs11.FindSoftHSM()
		if err != nil {
			return token, err
		}
		token.Module = path
	}
	return token, nil
}

// pinSource says where the PIN comes from. It is asked again at each login, so that a PIN can be changed while the service runs.
func pinSource(c server.Config, file string) keystore.PINSource {
	if name, ok := strings.CutPrefix(file, "credential:"); ok {
		return keystore.PINCredential(name)
	}
	return keystore.PINFile(c.Path(file))
}

// tokenOpener opens the tokens of the configuration, in this process or in worker processes. A PIN that one of them refused is not tried again,
// however often it is opened: a wrong one for the CA's token, which is opened at each use, would lock it.
func tokenOpener(c server.Config, log *slog.Logger) server.OpenToken {
	refused := isolate.NewRefusals()
	return func(ctx context.Context, t server.TokenConfig) (keystore.Token, error) {
		token, err := tokenConfig(c, t)
		if err != nil {
			return nil, err
		}
		if t.Processes == 0 {
			opened, err := pkcs11.Open(ctx, token)
			if err != nil {
				return nil, fmt.Errorf("HSM: %w", err)
			}
			return opened, nil
		}
		opened, err := worker.Open(ctx, token, isolate.Config{
			Command: isolate.Self(hsmWorker), Processes: t.Processes, Refusals: refused, Log: log.With("token", t.Name),
		})
		if err != nil {
			return nil, fmt.Errorf("HSM: %w", err)
		}
		return opened, nil
	}
}

// openKeys opens the tokens of the configuration. Recorded, if not nil, tells which attributes the ledger has of a key.
func openKeys(ctx context.Context, c server.Config, log *slog.Logger, recorded *server.Recorded) (*keystore.Store, error) {
	token, err := c.HSM.OpenTokens(ctx, tokenOpener(c, log))
	if err != nil {
		return nil, err
	}
	return keystore.New(token, c.HSM.StoreOptions(recorded)), nil
}

// hsmWorkerCommand is what a worker process runs; nobody else calls it.
func hsmWorkerCommand() *cobra.Command {
	return &cobra.Command{
		Use: hsmWorker, Hidden: true, Args: noArguments,
		Short: "Run a PKCS#11 module for the service that started this process",
		RunE:  func(cmd *cobra.Command, _ []string) error { return worker.Main(cmd.Context()) },
	}
}

// makeToken makes a SoftHSM2 token of the service's own in the data folder, with random PINs in files that only the owner can read.
func makeToken(ctx context.Context, c server.Config) error {
	path, err := pkcs11.FindSoftHSM()
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

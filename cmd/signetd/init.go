package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/signetd/signet/server"
)

func initCommand() *cobra.Command {
	defaults := server.DefaultConfig()
	var c server.Config
	var admin server.Administrator
	var data, pin, settings string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a new service: keys, ledger, trust file, the first administrator's code",
		Long: `Make a new service in a data folder.

In the environments demo and validation, without --module, a SoftHSM2 token of the service's own is made in the data folder, with random PINs in
files of mode 0600. In production the token is there already (--module, --token) and its PIN lies outside of the data
folder (--pin-file). In the token seven keys are made, none extractable: CA (P-384), time-stamping (P-256), sealing and closing (P-256),
ledger (Ed25519), a canary, and the one that passwords are checked with (HMAC). Each is recorded in the ledger with its attributes as the token reports them.

Several tokens, and whatever else the flags do not set, come from a configuration that you write before (--settings): the keys are made on the tokens
that hsm.roles names, a canary on each that is not offline. Keys of a token that has replicas are cloned to them by the device's own means, before the
first start. The configuration that init writes has all of it.

The one-time code of the first administrator is written to administrator.code in the data folder, mode 0600. Redeem it with
` + "`signet signer redeem`" + ` within 24 hours.`,
		Example: `  signetd init --data ./var --environment demo
  signetd init --data /var/lib/signet --environment production --system-access closed --issuer https://sign.example --origin sign.example/ledger \
    --organisation "Example Medical" --module /opt/hsm/libpkcs11.so --token signet --pin-file credential:hsm-pin
  signetd init --data /var/lib/signet --settings several-tokens.yaml`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if data, err = filepath.Abs(data); err != nil {
				return err
			}
			if settings != "" {
				if err := begin(cmd, settings, data, &c); err != nil {
					return err
				}
			}
			ctx, out := cmd.Context(), cmd.OutOrStdout()
			step := func(s string) { fmt.Fprintln(out, "  "+s) }
			c.DataDir = data
			ownToken := c.HSM.Module == "" && len(c.HSM.Tokens) == 0 && c.Environment != server.Production
			if pin != "" {
				c.HSM.PINFile = pin
			}
			if !ownToken && settings == "" {
				c.HSM.SoftHSMConf = os.Getenv("SOFTHSM2_CONF")
			}
			if err := c.Validate(); err != nil {
				return err
			}
			configFile := filepath.Join(data, "signetd.yaml")
			if _, err := os.Lstat(configFile); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%w: %s is there; start it with `signetd serve --config %s`, or choose another --data", server.ErrInitialised, configFile, configFile)
			}
			for _, file := range []string{filepath.Join(filepath.Dir(c.Path(c.HSM.PINFile)), "tokens"), c.Path(server.LedgerFile)} {
				if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) && ownToken {
					return fmt.Errorf("%s is left from an init that did not finish: nothing was signed with it; remove %s and run init again", file, data)
				}
			}
			if err := os.MkdirAll(data, 0o700); err != nil {
				return err
			}
			if ownToken {
				step("making a SoftHSM2 token in " + filepath.Dir(c.Path(c.HSM.SoftHSMConf)))
				if err := makeToken(ctx, c); err != nil {
					return err
				}
			}
			keys, err := openKeys(ctx, c, newLog(c.Log), nil)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, keys.Close()) }()
			made, err := server.Init(ctx, server.Options{Config: c, Keys: keys, Version: version}, admin, step)
			if err != nil {
				return err
			}
			codeFile := filepath.Join(data, "administrator.code")
			if err := writeSecret(codeFile, made.Code.Reveal()); err != nil {
				return err
			}
			// The configuration comes last: with it the service is there, without it init can be seen to have failed. It moves with its folder.
			c.DataDir = "."
			if err := os.WriteFile(configFile, c.YAML(), 0o600); err != nil {
				return err
			}
			fmt.Fprintf(out, `
The service is made.
  configuration       %s
  trust file          %s   (pin it wherever signatures are verified)
  server certificate  %s   (for signet --ca)
  first service       %s   (client certificate and key for Seal)
  administrator       %s, one-time code in %s, until %s

Next: signetd serve --config %s
`, configFile, made.TrustFile, made.ServerCertificate, made.SealingClient, admin.UserName, codeFile, made.CodeExpires.Local().Format(time.RFC1123Z), configFile)
			return nil
		},
	}
	c = defaults
	f := cmd.Flags()
	f.StringVarP(&data, "data", "d", "var", "data folder to make")
	f.StringVarP(&c.Environment, "environment", "e", defaults.Environment, "production, validation or demo")
	f.StringVar(&c.SystemAccess, "system-access", "", "closed or open: what this system is by 21 CFR 11.3 (default in a demo: closed)")
	f.StringVar(&c.Issuer, "issuer", defaults.Issuer, "URL of the service, in certificates")
	f.StringVar(&c.Organisation, "organisation", defaults.Organisation, "organisation, in certificates and statements")
	f.StringVar(&c.Ledger.Origin, "origin", defaults.Ledger.Origin, "origin of the ledger; never changes")
	f.StringVar(&c.Listen.Address, "listen", defaults.Listen.Address, "address to serve on, host:port")
	f.StringVar(&c.HSM.Module, "module", "", "path of the PKCS#11 module (default: a SoftHSM2 token of the service's own, except in production)")
	f.StringVar(&c.HSM.Token, "token", defaults.HSM.Token, "label of the token")
	f.StringVar(&pin, "pin-file", "", "file with the PIN, mode 0600, or credential:NAME")
	f.StringVar(&settings, "settings", "", "configuration to begin with, for what has no flag; flags go before it")
	f.StringVar(&c.Metrics.Address, "metrics", "", "host:port of a listener for Prometheus (default: none)")
	f.StringVar(&c.Web.Address, "web", "", "host:port of a listener for HTTPS: the ledger's tiles (default: none)")
	f.StringVar(&c.Pages.Address, "pages", "", "host:port of a listener for the signing pages (default: none)")
	f.StringVar(&c.Pages.PublicURL, "pages-url", "", "URL of the signing pages as browsers see it; its host name never changes (default: https://localhost and the port)")
	f.StringVar(&admin.UserName, "admin-user", "admin", "user name of the first administrator")
	f.StringVar(&admin.Name, "admin-name", "First Administrator", "printed name of the first administrator")
	f.StringVar(&admin.Title, "admin-title", "Security Administrator", "title of the first administrator")
	f.StringVar(&admin.Zone, "admin-zone", "UTC", "IANA time zone of the first administrator")
	f.StringVar(&admin.ProofingMethod, "admin-proofing", "appointed by whoever ran signetd init", "how the first administrator's identity was proved")
	f.StringVar(&admin.ProofingReference, "admin-proofing-reference", "signetd init", "reference of that proof")
	_ = cmd.MarkFlagDirname("data")
	_ = cmd.MarkFlagFilename("settings", "yaml")
	return cmd
}

// begin takes the configuration of a file, and over it the flags that were given.
func begin(cmd *cobra.Command, file, data string, c *server.Config) error {
	given := map[string]string{}
	cmd.Flags().Visit(func(f *pflag.Flag) { given[f.Name] = f.Value.String() })
	settings, err := server.ReadConfig(file)
	if err != nil {
		return err
	}
	settings.DataDir = data
	*c = settings
	for name, value := range given {
		if err := cmd.Flags().Set(name, value); err != nil {
			return usageError{err}
		}
	}
	return nil
}

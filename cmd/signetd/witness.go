package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/server"
)

func witnessCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "witness",
		Short: "Be a witness of other people's ledgers",
		Long: `Be a witness (C2SP tlog-witness): remember the newest checkpoint of each ledger that is watched, and cosign a later one only with
the proof that it continues that one. A witness belongs on another machine than the ledger, and best in another organisation.

It needs a key of its own, a small file to remember in, and an address. It knows no entries, and nothing that it exchanges is secret.`,
	}
	cmd.AddCommand(witnessInitCommand(), witnessServeCommand(), witnessKeyCommand(), witnessListCommand(), witnessForgetCommand())
	return cmd
}

// witnessFile is the name of a witness's configuration in its folder.
const witnessFile = "witness.yaml"

// witnessFlag adds --config.
func witnessFlag(c *cobra.Command) *string {
	path := c.Flags().StringP("config", "c", filepath.Join("witness", witnessFile), "configuration file")
	_ = c.MarkFlagFilename("config", "yaml")
	return path
}

// witnessKeys opens the witness's key: in its file, or in the HSM, which makes it where make is set.
func witnessKeys(ctx context.Context, c server.WitnessHostConfig, log *slog.Logger, create bool) (server.WitnessSigner, func() error, error) {
	none := func() error { return nil }
	if c.KeyFile != "" {
		if create {
			if err := server.MakeWitnessKey(c.Path(c.KeyFile)); err != nil {
				return server.WitnessSigner{}, none, err
			}
		}
		s, err := server.ReadWitnessKey(c.Path(c.KeyFile))
		return s, none, err
	}
	keys, err := openKeys(ctx, c.HSMConfig(), log, nil)
	if err != nil {
		return server.WitnessSigner{}, none, err
	}
	id := keystore.ID(c.HSM.Key)
	var key keystore.Key
	if create {
		key, err = keys.Generate(ctx, keystore.Spec{ID: id, Algorithm: keystore.Ed25519})
	} else {
		key, err = keys.Key(ctx, id)
	}
	public, ok := key.Public.(ed25519.PublicKey)
	if err == nil && !ok {
		err = fmt.Errorf("the key %s in the HSM is %s, not Ed25519", id, key.Algorithm)
	}
	if err != nil {
		return server.WitnessSigner{}, none, errors.Join(err, keys.Close())
	}
	sign := func(ctx context.Context, msg []byte) ([]byte, error) { return keys.Sign(ctx, id, public, msg) }
	return server.WitnessSigner{Public: public, Sign: sign}, keys.Close, nil
}

// openWitness opens the witness of a configuration.
func openWitness(ctx context.Context, path string) (*server.WitnessHost, *slog.Logger, func() error, error) {
	c, err := server.LoadWitnessHost(path)
	if err != nil {
		return nil, nil, nil, err
	}
	log := newLog(c.Log)
	signer, done, err := witnessKeys(ctx, c, log, false)
	if err != nil {
		return nil, nil, nil, err
	}
	h, err := server.OpenWitnessHost(c, signer, nil, log)
	if err != nil {
		return nil, nil, nil, errors.Join(err, done())
	}
	return h, log, done, nil
}

func witnessInitCommand() *cobra.Command {
	c := server.DefaultWitnessHost()
	folder := "witness"
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a witness: its key, its configuration",
		Long: `Make a witness in a folder: its key (in a file of mode 0600, or with --token in an HSM) and its configuration. The key is printed as it stands in
the policies of those who trust the witness (C2SP tlog-policy), and in the configuration of the ledgers that ask it.`,
		Example: `  signetd witness init --dir ./witness --name witness.example/w1 --ledger 'sign.example/ledger+1a2b3c4d+AQ…'
  signetd witness init --dir /var/lib/signet-witness --name witness.example/w1 --token witness --pin-file credential:hsm-pin --module /opt/hsm/libpkcs11.so`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if folder, err = filepath.Abs(folder); err != nil {
				return err
			}
			if c.HSM.Token != "" {
				c.KeyFile = ""
				if c.HSM.SoftHSMConf == "" {
					c.HSM.SoftHSMConf = os.Getenv("SOFTHSM2_CONF")
				}
			}
			if err := c.Validate(); err != nil {
				return err
			}
			path := filepath.Join(folder, witnessFile)
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%w: %s is there; start it with `signetd witness serve --config %s`, or choose another --dir", server.ErrInitialised, path, path)
			}
			if err := os.MkdirAll(folder, 0o700); err != nil {
				return err
			}
			here := c
			here.Folder = folder
			signer, done, err := witnessKeys(cmd.Context(), here, newLog(c.Log), true)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, done()) }()
			h, err := server.OpenWitnessHost(here, signer, nil, nil)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, h.Stop(context.Background())) }()
			if err := os.WriteFile(path, c.YAML(), 0o600); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), `The witness is made.
  configuration  %s
  key            %s

Whoever asks it or trusts it adds to their policy:
  witness %s %s <URL>

Next: signetd witness serve --config %s
`, path, h.VKey(), filepath.Base(c.Name), h.VKey(), path)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&folder, "dir", "d", folder, "folder to make")
	f.StringVar(&c.Name, "name", "", "name of the witness's key, such as witness.example/w1; never changes")
	f.StringVar(&c.Address, "address", c.Address, "host:port to listen on")
	f.StringVar(&c.Certificate, "certificate", "", "server certificate chain, PEM; without it the witness speaks plain HTTP")
	f.StringVar(&c.TLSKey, "tls-key", "", "its private key, PEM")
	f.StringArrayVar(&c.Ledgers, "ledger", nil, "key (vkey) of a ledger to watch; may be repeated")
	f.StringVar(&c.HSM.Module, "module", "", "PKCS#11 module; empty: SoftHSM2")
	f.StringVar(&c.HSM.Token, "token", "", "label or URI of the token that the key is made in; empty: the key is in a file")
	f.StringVar(&c.HSM.PINFile, "pin-file", "", "file with the token's user PIN, or credential:NAME")
	f.StringVar(&c.HSM.Key, "key-label", c.HSM.Key, "label of the key in the token")
	_ = cmd.MarkFlagRequired("name")
	return cmd
}

func witnessServeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve until SIGTERM",
		Long: `Serve add-checkpoint and the newest cosigned checkpoints over HTTP(S). What was cosigned is durable before it is answered.

Exit codes: 2 wrong usage or configuration; 4 the HSM refused the PIN; 1 the rest.`,
		Example: "  signetd witness serve --config ./witness/witness.yaml",
		Args:    noArguments,
	}
	path := witnessFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		ctx := cmd.Context()
		h, log, done, err := openWitness(ctx, *path)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, done()) }()
		l, err := h.Listen()
		if err != nil {
			return errors.Join(err, h.Stop(context.Background()))
		}
		log.Info("listening", "address", l.Addr().String(), "key", h.VKey())
		served := make(chan error, 1)
		go func() { served <- h.Serve(l) }()
		select {
		case err = <-served:
			if err == nil {
				err = errors.New("the listener ended")
			}
		case <-ctx.Done():
			log.Info("stopping")
		}
		stop, cancel := context.WithTimeout(context.Background(), stopWithin)
		defer cancel()
		if err = errors.Join(err, h.Stop(stop)); err == nil {
			log.Info("stopped")
		}
		return err
	}
	return cmd
}

func witnessKeyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "key", Short: "Print the witness's key, as it stands in policies", Args: noArguments,
		Example: "  signetd witness key --config ./witness/witness.yaml",
	}
	path := witnessFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		c, err := server.LoadWitnessHost(*path)
		if err != nil {
			return err
		}
		signer, done, err := witnessKeys(cmd.Context(), c, newLog(c.Log), false)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, done()) }()
		vkey, err := c.VKey(signer)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), vkey)
		return err
	}
	return cmd
}

func witnessListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "list", Short: "Say what the witness remembers of each ledger", Args: noArguments,
		Long:    "Say what the witness remembers of each ledger. The witness must not be running.",
		Example: "  signetd witness list --config ./witness/witness.yaml",
	}
	path := witnessFlag(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		h, _, done, err := openWitness(cmd.Context(), *path)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, h.Stop(context.Background()), done()) }()
		list, err := h.List()
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		if *asJSON {
			if err := json.MarshalWrite(out, list, json.Deterministic(true)); err != nil {
				return err
			}
			_, err = fmt.Fprintln(out)
			return err
		}
		for _, w := range list {
			fmt.Fprintf(out, "%s\n  entries  %d\n  root     %s\n", w.Origin, w.Size, w.Root)
			if !w.Time.IsZero() {
				fmt.Fprintf(out, "  cosigned %s\n", w.Time.UTC().Format(time.RFC3339))
			}
			if !w.Known {
				fmt.Fprintln(out, "  its key is not in the configuration: it is not watched")
			}
			if w.Forks > 0 {
				fmt.Fprintf(out, "  %d checkpoints of it contradict what was cosigned: it shows two histories\n", w.Forks)
			}
			if w.Retired > 0 {
				fmt.Fprintf(out, "  %d times it was allowed to begin again\n", w.Retired)
			}
		}
		return nil
	}
	return cmd
}

func witnessForgetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "forget", Short: "Allow a ledger to begin again, after a sanctioned restore", Args: noArguments,
		Long: `Give up the newest checkpoint of a ledger, so that one that was restored from an older backup is cosigned again. Do so only when its operator has
shown you its ledger.restored entry, and you know why. The checkpoint that is given up is kept as evidence: it shows that entries were lost.
The witness must not be running.`,
		Example: "  signetd witness forget --config ./witness/witness.yaml --ledger sign.example/ledger --size 4711",
	}
	path := witnessFlag(cmd)
	origin := cmd.Flags().String("ledger", "", "origin of the ledger")
	size := cmd.Flags().Uint64("size", 0, "entries of the checkpoint that is given up, as `witness list` says")
	_ = cmd.MarkFlagRequired("ledger")
	_ = cmd.MarkFlagRequired("size")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		h, _, done, err := openWitness(cmd.Context(), *path)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, h.Stop(context.Background()), done()) }()
		if err := h.Forget(*origin, *size); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "the checkpoint of %d entries of %s is given up and kept as evidence\n", *size, *origin)
		return err
	}
	return cmd
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/server"
)

// stopWithin is how long calls in progress may take to finish after SIGTERM.
const stopWithin = 30 * time.Second

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve until SIGTERM",
		Long: `Serve gRPC over TLS 1.3. The standard health service says SERVING once the HSM has made a real signature. SIGTERM and SIGINT stop gracefully: calls
in progress finish, and nothing that was acknowledged is lost.

A token that is only plugged in when it is needed, and all but one of several replicas, may be away at the start; they are used when they have come. Once
the service runs, a token that fails is set up anew until it works again.

Exit codes: 2 wrong usage or configuration; 4 the HSM refused the PIN: do not start again before it is put right, as some tries lock a token;
5 the ledger is older than what was seen of it (signetd ledger restore says more); 1 the rest.`,
		Example: "  signetd serve --config ./var/signetd.yaml",
		Args:    noArguments,
	}
	path := configFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		ctx := cmd.Context()
		c, err := server.LoadConfig(*path)
		if err != nil {
			return err
		}
		tuneMemory(int64(c.Identity.PasswordChecks) * int64(c.Identity.PasswordMemory) << 20)
		log := newLog(c.Log)
		recorded := &server.Recorded{}
		keys, err := openKeys(ctx, c, log, recorded)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, keys.Close()) }()
		s, err := server.Open(ctx, server.Options{Config: c, Keys: keys, Recorded: recorded, Version: version, Log: log})
		if err != nil {
			return err
		}
		l, err := s.Listen()
		if err != nil {
			return errors.Join(err, s.Stop(context.Background()))
		}
		log.Info("listening", "address", l.Addr().String(), "data", c.DataDir)
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		select {
		case err = <-served:
			if err == nil {
				err = errors.New("the listener ended")
			}
		case <-ctx.Done():
			log.Info("stopping", "within", stopWithin)
		}
		stop, cancel := context.WithTimeout(context.Background(), stopWithin)
		defer cancel()
		err = errors.Join(err, s.Stop(stop))
		if err == nil {
			log.Info("stopped")
		}
		return err
	}
	return cmd
}

func newLog(c server.LogConfig) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, options))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, options))
}

func configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Look at the configuration"}
	printed := &cobra.Command{
		Use:   "print",
		Short: "Print the effective configuration, each key with what it means",
		Long:  "Print the effective configuration: the file over the defaults, each key with what it means. --defaults prints what a file starts from.",
		Example: `  signetd config print --config ./var/signetd.yaml
  signetd config print --defaults`,
		Args: noArguments,
	}
	path := configFlag(printed)
	defaults := printed.Flags().Bool("defaults", false, "print the defaults instead of a file")
	printed.RunE = func(cmd *cobra.Command, _ []string) error {
		c := server.DefaultConfig()
		if !*defaults {
			var err error
			if c, err = server.LoadConfig(*path); err != nil {
				return err
			}
		}
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s", c.YAML())
		return err
	}
	cmd.AddCommand(printed)
	return cmd
}

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	signetv1 "github.com/signetd/signet/api/signet/v1"
	"github.com/signetd/signet/server"
	"github.com/signetd/signet/server/conform"
)

// errNotConforming says that a check failed.
var errNotConforming = errors.New("the deployment does not do what it should: the report says what was seen")

func conformCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "conform",
		Short: "Check the running service clause by clause, and write a report to be signed",
		Long: `Check the running service clause by clause of 21 CFR Part 11, as an administrator and on its machine, and write a report: what was done, what was seen.
It calls every method without credentials, logs in with wrong ones until it is locked out, looks for the alert, takes an export and a backup away, and alters
copies of them, each of which must be found. It enrols nobody and signs nothing; it leaves entries of failed logins, alerts, and a lock of its own network
for as long as identity.lockFor says: run it from a machine where nobody else logs in.

The report is a folder (report.json, index.html). Sign it like any other record, and file it:
  signet record create --type conformance --product signet --version v0.1.0 --bundle REPORT --approver WHO

Exit codes: 0 no check failed; 3 one did; 1 it could not be checked; 2 wrong usage.`,
		Example: "  signetd conform --config ./var/signetd.yaml --user admin --password-file admin.password --to conformance-2026-11-21",
		Args:    noArguments,
	}
	path := configFlag(cmd)
	user := cmd.Flags().String("user", "", "user name of an administrator")
	passwordFile := cmd.Flags().String("password-file", "", "file with their password (default: it is asked for)")
	totpFile := cmd.Flags().String("totp-file", "", "file with their one-time password, where one is set")
	to := cmd.Flags().String("to", "", "folder to make for the report")
	trustFile := cmd.Flags().String("trust", "", "the trust file that you have pinned (default: the service's own)")
	asJSON := cmd.Flags().Bool("json", false, "print the report as JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *user == "" || *to == "" {
			return usageError{errors.New("say who, and where the report goes: --user NAME --to FOLDER")}
		}
		c, err := server.LoadConfig(*path)
		if err != nil {
			return err
		}
		password, err := conformPassword(*passwordFile)
		if err != nil {
			return err
		}
		if *trustFile == "" {
			*trustFile = c.Path(server.TrustFile)
		}
		totp := ""
		if *totpFile != "" {
			b, err := os.ReadFile(*totpFile)
			if err != nil {
				return err
			}
			totp = strings.TrimSpace(string(b))
		}
		trust, err := os.ReadFile(*trustFile)
		if err != nil {
			return fmt.Errorf("the trust file: %w", err)
		}
		if _, err := os.Stat(*to); err == nil {
			return usageError{fmt.Errorf("%s exists", *to)}
		}
		work, err := os.MkdirTemp(filepath.Dir(filepath.Clean(*to)), ".signet-conform-*") // beside the report: the copies can be large
		if err != nil {
			return err
		}
		defer os.RemoveAll(work)
		o := conform.Options{
			Config: c, Trust: trust, Folder: work, Backup: func(ctx context.Context, to string) error { return conformBackup(ctx, c, to) },
			Credentials: &signetv1.PasswordCredentials{UserName: *user, Password: password, Totp: totp},
		}
		if !*asJSON {
			o.Progress = func(k conform.Check) { fmt.Fprintf(cmd.OutOrStdout(), "%-13s %-18s %s\n", k.Verdict, k.ID, k.Title) }
		}
		done, err := conformDial(c, &o)
		if err != nil {
			return err
		}
		defer done()
		report, err := conform.Run(cmd.Context(), o)
		if err != nil {
			return err
		}
		files, err := report.Files()
		if err != nil {
			return err
		}
		if err := os.Mkdir(*to, 0o755); err != nil {
			return err
		}
		for name, b := range files {
			if err := os.WriteFile(filepath.Join(*to, name), b, 0o644); err != nil {
				return err
			}
		}
		if *asJSON {
			if err := printJSON(cmd.OutOrStdout(), report); err != nil {
				return err
			}
		} else {
			fmt.Fprintf(cmd.OutOrStdout(), "\nReport: %s\nSign it: signet record create --type conformance --bundle %s --help\n", filepath.Join(*to, "index.html"), *to)
		}
		if !report.Passed() {
			return errNotConforming
		}
		return nil
	}
	return cmd
}

// conformPassword reads the password from a file, or asks for it.
func conformPassword(file string) (string, error) {
	if file != "" {
		b, err := os.ReadFile(file)
		return strings.TrimRight(string(b), "\r\n"), err
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return "", usageError{errors.New("nobody can be asked for the password: --password-file FILE")}
	}
	fmt.Fprint(os.Stderr, "Password: ")
	b, err := term.ReadPassword(int(os.Stdin.Fd()))
	fmt.Fprintln(os.Stderr)
	return string(b), err
}

// conformDial connects to the service of the configuration, whose own certificate is the one that is trusted.
func conformDial(c server.Config, o *conform.Options) (done func(), err error) {
	file, err := os.ReadFile(c.Path(c.Listen.Certificate))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(file) {
		return nil, fmt.Errorf("%s holds no certificate", c.Path(c.Listen.Certificate))
	}
	host, address, err := onThisMachine(c.Listen.Address)
	if err != nil {
		return nil, err
	}
	settings := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: nameIn(file, host)}
	dialer := reach{c.Network}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(credentials.NewTLS(settings)), grpc.WithUserAgent("signetd-conform/"+version),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return dialer.dial(ctx, address) }))
	if err != nil {
		return nil, err
	}
	o.Dial = func() (grpc.ClientConnInterface, error) { return conn, nil }
	o.Listeners = []string{address}
	for _, other := range []string{c.Web.Address, c.Pages.Address} {
		if other == "" {
			continue
		}
		_, reached, err := onThisMachine(other)
		if err != nil {
			return nil, err
		}
		o.Listeners = append(o.Listeners, reached)
	}
	o.OldTLS = func(ctx context.Context, address string) error {
		old := &tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, InsecureSkipVerify: true} // what it speaks is asked, not who it is
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		plain, err := dialer.dial(ctx, address)
		if err != nil {
			return err
		}
		defer plain.Close()
		return tls.Client(plain, old).HandshakeContext(ctx)
	}
	return func() { _ = conn.Close() }, nil
}

// reach connects to a listener of the service. Where its proxies stand on this machine and speak the PROXY protocol, who comes from here speaks it, too.
type reach struct{ network server.NetworkConfig }

func (r reach) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	header, err := r.network.Header(conn.LocalAddr())
	if err == nil && len(header) > 0 {
		_, err = conn.Write(header)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// onThisMachine is where a listener is reached from the same machine.
func onThisMachine(listener string) (host, address string, err error) {
	host, port, err := net.SplitHostPort(listener)
	if err != nil {
		return "", "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return host, net.JoinHostPort(host, port), nil
}

// nameIn is a name that a certificate holds for: that of the listener, or another one of its own, as the certificate of a service that others reach
// under its public name need not know the machine's. It is that of the file, so it is trusted under any of them.
func nameIn(chain []byte, host string) string {
	block, _ := pem.Decode(chain)
	if block == nil {
		return host
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	switch {
	case err != nil || certificate.VerifyHostname(host) == nil:
		return host
	case len(certificate.DNSNames) > 0:
		return strings.Replace(certificate.DNSNames[0], "*", "signetd", 1)
	case len(certificate.IPAddresses) > 0:
		return certificate.IPAddresses[0].String()
	}
	return host
}

func conformBackup(ctx context.Context, c server.Config, to string) (err error) {
	stream, err := server.AskBackup(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stream.Close()) }()
	saved, err := stream.Save(to, nil)
	if err != nil {
		return err
	}
	_, err = stream.Record(ctx, saved.Sums, false) // it is checked in a moment, and the report says so
	return err
}

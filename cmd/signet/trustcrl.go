package main

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/signetd/signet/api/exchange"
	"github.com/signetd/signet/clients/go/signet"
)

// maxRevocationList bounds a file with revocation lists.
const maxRevocationList = 64 << 20

// crlOut is a revocation list.
type crlOut struct {
	CA         string       `json:"ca" doc:"name of the CA"`
	Key        string       `json:"key" doc:"key id of the CA"`
	Number     string       `json:"number" doc:"number of the list; each has a higher one than that before it"`
	ThisUpdate string       `json:"thisUpdate" doc:"when it was made"`
	NextUpdate string       `json:"nextUpdate" doc:"until when it holds; a newer one comes before"`
	Revoked    []revokedOut `json:"revoked" doc:"certificates that were revoked, the oldest first"`
}

type revokedOut struct {
	Serial string `json:"serial" doc:"serial number, hex"`
	Time   string `json:"time" doc:"from when on the certificate does not count"`
	Reason string `json:"reason" doc:"RFC 5280, section 5.3.1: unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation, certificateHold"`
}

var revocationReasons = map[int]string{
	0: "unspecified", 1: "keyCompromise", 2: "cACompromise", 3: "affiliationChanged", 4: "superseded", 5: "cessationOfOperation", 6: "certificateHold",
	9: "privilegeWithdrawn", 10: "aACompromise",
}

func newCRLOut(list *x509.RevocationList, ca *x509.Certificate, key string) crlOut {
	o := crlOut{CA: ca.Subject.CommonName, Key: key, Number: list.Number.String(), ThisUpdate: stamp(list.ThisUpdate), NextUpdate: stamp(list.NextUpdate), Revoked: []revokedOut{}}
	for _, e := range list.RevokedCertificateEntries {
		reason, ok := revocationReasons[e.ReasonCode]
		if !ok {
			reason = strconv.Itoa(e.ReasonCode)
		}
		o.Revoked = append(o.Revoked, revokedOut{hex.EncodeToString(e.SerialNumber.Bytes()), stamp(e.RevocationTime), reason})
	}
	return o
}

func (a *app) trustCRL() *cobra.Command {
	type out struct {
		Lists []crlOut `json:"lists" doc:"of each CA that the trust file pins, the newest first"`
		File  string   `json:"file" doc:"where they were written; empty: nowhere"`
	}
	var to string
	cmd := documented(&cobra.Command{
		Use: "crl", Short: "Fetch the revocation lists of the CA, for openssl and other tools", Args: cobra.NoArgs,
		Long: `Fetch the revocation lists of the CA (RFC 5280), for openssl and other tools.

Each list must be signed by a CA that the pinned trust file names. signet verify needs none of them: the ledger says what was revoked, and
when. They stand at /ca/crl of the server's HTTPS listener, too.`,
		Example: "  signet trust crl\n  signet trust crl --out ca.crl\n  signet export --format openssl --crl ca.crl --manifest signatures/release-v0.1.0.json --output check/",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.online(cmd.Context(), func(ctx context.Context, client *signet.Client, s selected) error {
				p, err := s.pinnedTrust()
				if err != nil {
					return err
				}
				if p == nil {
					return noTrust()
				}
				all, err := client.CertificateAuthorities(ctx)
				if err != nil {
					return err
				}
				o := out{Lists: []crlOut{}}
				var file []byte
				for _, ca := range all {
					if len(ca.GetRevocationList()) == 0 {
						continue
					}
					list, root, err := exchange.RevocationList(ca.GetRevocationList(), p.trust)
					if errors.Is(err, exchange.ErrList) {
						a.notice("Left out, because the trust file does not pin its CA: the revocation list of the key %s", keyOf(ca.GetKey()))
						continue
					}
					if err != nil {
						return err
					}
					o.Lists = append(o.Lists, newCRLOut(list, root, keyOf(ca.GetKey())))
					file = append(file, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: list.Raw})...)
				}
				if len(o.Lists) == 0 {
					return &exitError{code: exitUntrusted, err: errors.New("no revocation list is signed by a CA that the trust file pins"), next: "signet trust list"}
				}
				if to != "" {
					if err := createFile(to, file, 0o644); errors.Is(err, fs.ErrExist) {
						return withNext(fmt.Errorf("%s exists", to), "choose another name, or remove it first")
					} else if err != nil {
						return err
					}
					o.File = to
				}
				return a.print(o, func(p *printer) { p.revocationLists(o.Lists, o.File) })
			})
		},
	}, out{})
	cmd.Flags().StringVar(&to, "out", "", "write the lists to this new file, PEM, one after the other")
	return cmd
}

func (p *printer) revocationLists(lists []crlOut, file string) {
	for i, l := range lists {
		if i > 0 {
			p.line("")
		}
		p.details(pair{"CA", l.CA}, pair{"Key", l.Key}, pair{"Number", l.Number}, pair{"Made", whenStamp(l.ThisUpdate)}, pair{"Holds until", whenStamp(l.NextUpdate)})
		rows := make([][]string, len(l.Revoked))
		for i, r := range l.Revoked {
			rows[i] = []string{r.Serial, whenStamp(r.Time), r.Reason}
		}
		if len(rows) == 0 {
			p.line("Nothing was revoked.")
			continue
		}
		p.table([]string{"SERIAL", "REVOKED", "REASON"}, rows)
	}
	if file != "" {
		p.line("\nWritten to %s.", clean(file))
	}
}

// readRevocationLists reads the lists in files, PEM or DER.
func readRevocationLists(files []string) (out [][]byte, err error) {
	for _, file := range files {
		b, err := readFile(file, maxRevocationList)
		if err != nil {
			return nil, err
		}
		if len(b) > 0 && b[0] == 0x30 {
			out = append(out, b)
			continue
		}
		n := len(out)
		for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
			if block.Type != "X509 CRL" {
				return nil, fmt.Errorf("%s holds a %s, not a revocation list", file, block.Type)
			}
			out = append(out, block.Bytes)
		}
		if len(out) == n {
			return nil, fmt.Errorf("%s holds no revocation list, PEM or DER", file)
		}
	}
	return out, nil
}

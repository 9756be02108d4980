package identity

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // a server without a zone database still knows every zone
	"unicode"
	"unicode/utf8"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/ledger"
)

const (
	privateKeys      = "identity.keys"
	privateVerifiers = "identity.verifiers" // signer id → PHC string
	namesKey         = "user-names"
)

// blinder returns what blinds user names: HMAC-SHA-256 under a key of the service. The key is made when it is needed
// for the first time.
func (d *Directory) blinder(ctx context.Context) (func(name string) string, error) {
	d.namesMu.Lock()
	defer d.namesMu.Unlock()
	if d.names == nil {
		key, err := d.loadNamesKey(ctx)
		if err != nil {
			return nil, err
		}
		d.names = key
	}
	key := d.names
	return func(name string) string {
		h := hmac.New(sha256.New, key)
		h.Write([]byte("signet user name\x00" + name))
		return hex.EncodeToString(h.Sum(nil))
	}, nil
}

func (d *Directory) loadNamesKey(ctx context.Context) ([]byte, error) {
	fresh := make([]byte, 32)
	rand.Read(fresh)
	var key []byte
	read := func(r *ledger.Read) (bool, error) {
		var row credentialRow
		ok, err := get(r.View(projectionName), bucketMeta, []byte("names"), &row)
		if err != nil || !ok {
			return false, err
		}
		key = r.GetPrivate(privateKeys, []byte(namesKey))
		if len(key) != 32 || hexSum(key) != row.Commitment {
			return false, fmt.Errorf("%w: the key that blinds user names is not the one of entry %d", ErrTampered, row.Index)
		}
		return true, nil
	}
	var found bool
	err := d.ledger.View(func(r *ledger.Read) (err error) {
		found, err = read(r)
		return err
	})
	if err != nil || found {
		return key, err
	}
	_, err = d.ledger.Do(ctx, func(tx *ledger.Tx) error {
		if found, err := read(tx.Read); err != nil || found {
			return err
		}
		key = fresh
		tx.PutPrivate(privateKeys, []byte(namesKey), fresh)
		tx.Emit(ledger.Event{Type: chain.SignerCredential, Actor: System("identity").Actor(), Body: signerCredential{
			Commitment: hexSum(fresh), Kind: credentialNames, Reason: "user names that lead to nobody are kept blinded",
		}})
		return nil
	})
	return key, err
}

// fold brings a user name to the form in which it is kept.
func fold(name string) string { return strings.ToLower(strings.TrimSpace(name)) }

// checkUserName holds the name of a person or service against its form.
func checkUserName(name string) error {
	ok := len(name) >= 2 && len(name) <= 64 && !strings.HasPrefix(name, "sgn_") && !strings.HasPrefix(name, "svc_")
	for i := 0; ok && i < len(name); i++ {
		c := name[i]
		ok = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || i > 0 && (c == '.' || c == '_' || c == '-')
	}
	if !ok {
		return invalid("user name %.80q: use 2 to 64 lower-case letters, digits, and . _ - inside, not beginning with sgn_ or svc_", name)
	}
	return nil
}

// checkText holds one line of text.
func checkText(what, s string, least, most int) error {
	if !utf8.ValidString(s) {
		return invalid("%s: not UTF-8", what)
	}
	if n := utf8.RuneCountInString(s); n > most || utf8.RuneCountInString(strings.TrimSpace(s)) < least {
		return invalid("%s: %d characters; use %d to %d", what, n, least, most)
	}
	for _, r := range s {
		if !unicode.IsGraphic(r) && r != '\u200c' && r != '\u200d' {
			return invalid("%s: it holds the character %U, which cannot be seen", what, r)
		}
	}
	return nil
}

// areas of the IANA time zone database.
var areas = []string{"Africa/", "America/", "Antarctica/", "Arctic/", "Asia/", "Atlantic/", "Australia/", "Europe/", "Indian/", "Pacific/", "Etc/"}

// checkZone holds the name of a time zone against the IANA database. Names of the machine's own ("Local", "localtime",
// "right/…") and the database's old ones are not taken: a signature must show the same zone everywhere.
func checkZone(zone string) error {
	known := zone == "UTC"
	for _, a := range areas {
		known = known || strings.HasPrefix(zone, a)
	}
	if known && !strings.Contains(zone, "..") {
		if l, err := time.LoadLocation(zone); err == nil && l.String() == zone {
			return nil
		}
	}
	return invalid("time zone %.80q: use a name of the IANA database, such as Europe/Berlin, or UTC", zone)
}

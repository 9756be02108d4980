package conform

import (
	"encoding/json/jsontext"
	"testing"

	"github.com/signetd/signet/api/chain"
)

// entriesOf makes entries out of type, actor, session and body.
func entriesOf(rows ...[4]string) []chain.Entry {
	list := make([]chain.Entry, len(rows))
	for i, row := range rows {
		list[i] = chain.Entry{Index: uint64(i), Type: chain.Type(row[0]), Actor: chain.Actor{ID: row[1], Kind: chain.Person, Session: row[2]}, Body: jsontext.Value(row[3])}
	}
	return list
}

// TestFoundInTheLedger: what must not stand in a ledger is found in one where it does. None that this service writes has it.
func TestFoundInTheLedger(t *testing.T) {
	const (
		full = `{"components":["user name","password"]}`
		less = `{"components":["password"]}`
		key  = `{"components":["passkey"]}`
	)
	attempt := func(session, body string) [4]string {
		return [4]string{string(chain.SignatureAttempted), "sgn_ada", session, body}
	}
	t.Run("components", func(t *testing.T) {
		for _, row := range []string{"11.200(a)(1)", "11.200(a)(1)(i)", "11.200(a)(1)(ii)"} {
			t.Attr("requirement", row)
		}
		for _, tc := range []struct {
			name       string
			list       []chain.Entry
			alone, bad bool
		}{
			{"all, each time", entriesOf(attempt("ses_1", full), attempt("ses_2", full)), false, false},
			{"fewer after all, in one session", entriesOf(attempt("ses_1", full), attempt("ses_1", less)), false, false},
			{"fewer at first", entriesOf(attempt("ses_1", less), attempt("ses_1", full)), false, true},
			{"fewer in another session", entriesOf(attempt("ses_1", full), attempt("ses_2", less)), false, true},
			{"a session alone", entriesOf(attempt("ses_1", full), attempt("ses_1", `{"components":[]}`)), false, true},
			{"no session", entriesOf(attempt("", full)), false, true},
			{"a passkey alone", entriesOf(attempt("ses_1", key)), false, true},
			{"a passkey alone, where that is allowed", entriesOf(attempt("ses_1", key)), true, false},
		} {
			if _, _, err := componentsOf(tc.list, tc.alone); (err != nil) != tc.bad {
				t.Errorf("%s: %v", tc.name, err)
			}
		}
	})
	t.Run("two people", func(t *testing.T) {
		t.Attr("requirement", "11.200(a)(3)")
		confirmed := func(by string) []chain.Entry {
			return entriesOf([4]string{string(chain.ActConfirmed), by, "ses_1", `{"proposer":"sgn_grace","subject":"sgn_ada"}`})
		}
		for by, bad := range map[string]bool{"sgn_olga": false, "sgn_grace": true, "sgn_ada": true} {
			if err := confirmedByOthers(confirmed(by)); (err != nil) != bad {
				t.Errorf("confirmed by %s: %v", by, err)
			}
		}
	})
	t.Run("after a revocation", func(t *testing.T) {
		t.Attr("requirement", "11.300(c)")
		revoked := [4]string{string(chain.SignerRevoked), "sgn_grace", "ses_1", `{"by":"sgn_grace","id":"sgn_ada","keyId":"","reason":"left"}`}
		if n, err := quietAfterwards(entriesOf(attempt("ses_1", full), revoked)); err != nil || n != 1 {
			t.Errorf("quiet: %d, %v", n, err)
		}
		for _, typ := range []chain.Type{chain.SignatureAttempted, chain.SessionOpened} {
			if _, err := quietAfterwards(entriesOf(revoked, [4]string{string(typ), "sgn_ada", "ses_2", `{}`})); err == nil {
				t.Errorf("%s after it is not found", typ)
			}
		}
	})
}

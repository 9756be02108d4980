package conform

import (
	"encoding/json/jsontext"
	"errors"
	"iter"
	"testing"

	"github.com/signetd/signet/api/chain"
)

// entriesOf makes entries out of type, actor, session and body, an hour apart.
func entriesOf(rows ...[4]string) iter.Seq2[chain.Entry, error] {
	return func(yield func(chain.Entry, error) bool) {
		for i, row := range rows {
			if !yield(chain.Entry{
				Index: uint64(i), Time: chain.TimeFromMilli(int64(i) * 3_600_000), Type: chain.Type(row[0]),
				Actor: chain.Actor{ID: row[1], Kind: chain.Person, Session: row[2]}, Body: jsontext.Value(row[3]),
			}, nil) {
				return
			}
		}
	}
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
			list       iter.Seq2[chain.Entry, error]
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
		confirmed := func(by string) iter.Seq2[chain.Entry, error] {
			return entriesOf([4]string{string(chain.ActConfirmed), by, "ses_1", `{"proposer":"sgn_grace","subject":"sgn_ada"}`})
		}
		for by, bad := range map[string]bool{"sgn_olga": false, "sgn_grace": true, "sgn_ada": true} {
			if _, err := confirmedByOthers(confirmed(by)); (err != nil) != bad {
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
	t.Run("training", func(t *testing.T) {
		t.Attr("requirement", "11.10(i)")
		const (
			designation = string(chain.DesignationChanged)
			attested    = string(chain.TrainingAttested)
			prepared    = string(chain.SignaturePrepared)
		)
		record := [4]string{string(chain.RecordCreated), "sgn_rita", "ses_1", `{"event":"evt_1","type":"release"}`}
		asked := [4]string{designation, "sgn_olga", "ses_1", `{"now":{"courses":["gxp","sop"]},"recordType":"release"}`}
		no := [4]string{designation, "sgn_olga", "ses_1", `{"now":{"courses":[]},"recordType":"release"}`}
		train := func(id, signer, course, end string) [4]string {
			return [4]string{attested, "sgn_olga", "ses_1", `{"course":"` + course + `","end":"` + end + `","id":"` + id + `","signer":"` + signer + `"}`}
		}
		gxp, sop := train("trn_1", "sgn_ada", "gxp", "1970-01-02T00:00:00.000Z"), train("trn_2", "sgn_ada", "sop", "1970-01-02T00:00:00.000Z")
		withdrawn := [4]string{string(chain.TrainingWithdrawn), "sgn_olga", "ses_1", `{"course":"sop","id":"trn_2","reason":"x","signer":"sgn_ada"}`}
		sign := [4]string{prepared, "sgn_ada", "ses_2", `{"event":"evt_1","signer":"sgn_ada"}`}
		for _, tc := range []struct {
			name string
			list iter.Seq2[chain.Entry, error]
			bad  bool
		}{
			{"none is asked for", entriesOf(record, sign), false},
			{"none is asked for any more", entriesOf(record, asked, no, sign), false},
			{"it is asked for later", entriesOf(record, sign, asked), false},
			{"trained", entriesOf(record, asked, gxp, sop, sign), false},
			{"trained in the one course alone", entriesOf(record, asked, gxp, sign), true},
			{"trained afterwards", entriesOf(record, asked, sign, gxp, sop), true},
			{"somebody else is trained", entriesOf(record, asked, gxp, train("trn_2", "sgn_max", "sop", "1970-01-02T00:00:00.000Z"), sign), true},
			{"it has lapsed", entriesOf(record, asked, gxp, train("trn_2", "sgn_ada", "sop", "1970-01-01T03:59:59.999Z"), sign), true},
			{"it was withdrawn", entriesOf(record, asked, gxp, sop, withdrawn, sign), true},
			{"it is withdrawn afterwards, and so is the signature", entriesOf(record, asked, gxp, sop, sign, withdrawn, sign), false},
			{"a second one on it", entriesOf(record, asked, gxp, sop, sign, [4]string{prepared, "sgn_max", "ses_3", `{"event":"evt_1","signer":"sgn_max"}`}), true},
		} {
			if _, _, err := trainedBefore(tc.list); (err != nil) != tc.bad {
				t.Errorf("%s: %v", tc.name, err)
			}
		}
		if n, first, err := trainedBefore(entriesOf(record, asked, gxp, sop, sign, sign)); n != 2 || first != 1 || err != nil {
			t.Errorf("%d attestations, %d signatures, %v", n, first, err)
		}
	})
	t.Run("a ledger that ends midway", func(t *testing.T) {
		gone := errors.New("gone")
		list := func(yield func(chain.Entry, error) bool) {
			for e := range entriesOf(attempt("ses_1", full)) {
				if !yield(e, nil) {
					return
				}
			}
			yield(chain.Entry{}, gone)
		}
		_, _, components := componentsOf(list, false)
		_, confirmed := confirmedByOthers(list)
		_, quiet := quietAfterwards(list)
		_, _, trained := trainedBefore(list)
		for i, err := range []error{components, confirmed, quiet, trained} {
			if !errors.Is(err, gone) {
				t.Errorf("%d: %v", i, err)
			}
		}
	})
}

package identity

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/signetd/signet/api/chain"
	"github.com/signetd/signet/server/internal/notify"
)

// Where a signer is told is their own affair or an administrator's, lies beside the ledger, and cannot be turned away unseen.
func TestContact(t *testing.T) {
	f := newFixture(t)
	admin, ada, signer := f.ada()
	alan := f.enrol(admin, "alan", "Alan Turing", secondPass, RoleSigner)
	set := func(by Caller, id, email string) error {
		return f.d.SetContact(t.Context(), by, id, email, "asked for it")
	}
	for what, err := range map[string]error{
		"somebody else's":     set(ada, alan.ID, "mallory@example.com"),
		"nobody's":            set(admin, "sgn_nobody", "x@example.com"),
		"no address":          set(ada, signer.ID, "ada"),
		"two addresses":       set(ada, signer.ID, "a@example.com, b@example.com"),
		"a name":              set(ada, signer.ID, "Ada <a@example.com>"),
		"a line":              set(ada, signer.ID, "a@example.com\r\nBcc: b@example.com"),
		"a name as if it was": set(ada, signer.ID, "<a@example.com>"),
	} {
		if err == nil {
			t.Errorf("%s is taken", what)
		}
	}
	if err := set(ada, alan.ID, "mallory@example.com"); !errors.Is(err, ErrForbidden) {
		t.Errorf("%v", err)
	}
	if err := set(ada, signer.ID, "ada"); !errors.Is(err, notify.ErrContact) {
		t.Errorf("%v", err)
	}
	from := f.ledger.Size()
	types := f.appended(func() {
		must(0, set(ada, signer.ID, "ada@example.com"))
	})
	if !slices.Equal(types, []chain.Type{chain.SignerChanged}) {
		t.Errorf("%v", types)
	}
	types = f.appended(func() { must(0, set(admin, signer.ID, "lovelace@example.com")) })
	if !slices.Equal(types, []chain.Type{chain.SignerChanged, chain.AlertRaised}) {
		t.Errorf("%v: the address before hears of it", types)
	}
	for _, e := range f.entries(from) {
		if strings.Contains(string(e.Body), "@") {
			t.Errorf("the ledger has the address: %s", e.Body)
		}
	}
	if types = f.appended(func() { must(0, set(ada, signer.ID, "")) }); !slices.Equal(types, []chain.Type{chain.SignerChanged, chain.AlertRaised}) {
		t.Errorf("%v", types)
	}
	if types = f.appended(func() { must(0, set(ada, signer.ID, "")) }); len(types) != 0 {
		t.Errorf("%v: nothing was there", types)
	}
}

// A login from where a person never was is told to them.
func TestNewDevice(t *testing.T) {
	f := newFixture(t)
	_, _, signer := f.ada()
	open := func(src Source) []chain.Type {
		return f.appended(func() {
			if _, _, _, err := f.d.OpenSession(t.Context(), src, "ada", adaPass); err != nil {
				t.Fatal(err)
			}
		})
	}
	if got := open(desk); !slices.Equal(got, []chain.Type{chain.SessionOpened}) {
		t.Errorf("%v from where she has enrolled", got)
	}
	f.restart()
	if got := open(desk); !slices.Equal(got, []chain.Type{chain.SessionOpened}) {
		t.Errorf("%v after a restart", got)
	}
	if got := open(other); !slices.Equal(got, []chain.Type{chain.SessionOpened, chain.AlertRaised}) {
		t.Errorf("%v from another address", got)
	}
	if got := open(other); !slices.Equal(got, []chain.Type{chain.SessionOpened}) {
		t.Errorf("%v from there again", got)
	}
	list, err := notify.List(f.ledger, 0, 10, false)
	if err != nil || len(list) != 2 || list[1].Kind != notify.KindSignatureUsed || list[0].Kind != notify.KindDeviceNew || list[0].Subject != signer.ID {
		t.Errorf("%+v, %v", list, err)
	}
}

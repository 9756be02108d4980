package faulty_test

import (
	"bytes"
	"crypto"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11/faulty"
)

func TestRules(t *testing.T) {
	d := newDevice(t)
	s := d.session()
	random := func() error { _, err := d.p.GenerateRandom(s, 8); return err }
	for name, test := range map[string]struct {
		fault faulty.Fault
		want  string // of eight calls, those that fail
	}{
		"once":           {faulty.Fault{}, "x......."},
		"three times":    {faulty.Fault{Times: 3}, "xxx....."},
		"later":          {faulty.Fault{Skip: 2, Times: 2}, "..xx...."},
		"always":         {faulty.Fault{Times: faulty.Always}, "xxxxxxxx"},
		"after the work": {faulty.Fault{Times: 2, After: true}, "xx......"},
		"over":           {faulty.Fault{Times: faulty.Always, For: 1}, "........"},
	} {
		t.Run(name, func(t *testing.T) {
			test.fault.Function, test.fault.Code = faulty.GenerateRandom, pkcs11.CKR_DEVICE_MEMORY
			rule := d.m.Add(test.fault)
			var got strings.Builder
			for range 8 {
				switch code(random()) {
				case 0:
					got.WriteByte('.')
				case pkcs11.CKR_DEVICE_MEMORY:
					got.WriteByte('x')
				}
			}
			if got.String() != test.want || rule.Fired() != strings.Count(test.want, "x") {
				t.Errorf("got %s, fired %d times; want %s", got.String(), rule.Fired(), test.want)
			}
			rule.Heal()
			if err := random(); err != nil {
				t.Errorf("after it was healed: %v", err)
			}
		})
	}
	t.Run("the newest one decides", func(t *testing.T) {
		d.m.Fail(faulty.GenerateRandom, faulty.Always, pkcs11.CKR_DEVICE_MEMORY)
		d.m.Fail(faulty.Any, 1, pkcs11.CKR_HOST_MEMORY)
		d.want(random(), pkcs11.CKR_HOST_MEMORY)
		d.want(random(), pkcs11.CKR_DEVICE_MEMORY)
		d.m.HealRules()
		d.want(random(), 0)
	})
	t.Run("for a while", func(t *testing.T) {
		d.m.FailFor(faulty.GenerateRandom, 20*time.Millisecond, pkcs11.CKR_DEVICE_MEMORY)
		d.want(random(), pkcs11.CKR_DEVICE_MEMORY)
		until(t, "its end", func() bool { return random() == nil })
	})
	t.Run("by chance", func(t *testing.T) {
		rule := d.m.Add(faulty.Fault{Function: faulty.GenerateRandom, Times: faulty.Always, Chance: 0.5, Code: pkcs11.CKR_DEVICE_MEMORY})
		for range 1000 {
			random()
		}
		if n := rule.Fired(); n < 300 || n > 700 {
			t.Errorf("%d of 1000 with a chance of a half", n)
		}
		d.m.Heal()
	})
	t.Run("a delay", func(t *testing.T) {
		d.m.Delay(faulty.GenerateRandom, 1, 30*time.Millisecond)
		began := time.Now()
		d.want(random(), 0)
		if took := time.Since(began); took < 30*time.Millisecond {
			t.Errorf("took %v", took)
		}
	})
	t.Run("a hang", func(t *testing.T) {
		rule := d.m.Hang(faulty.GenerateRandom, 1, pkcs11.CKR_DEVICE_ERROR)
		var all sync.WaitGroup
		all.Go(func() { d.want(random(), pkcs11.CKR_DEVICE_ERROR) })
		until(t, "a call that hangs", func() bool { return d.m.Hung(faulty.GenerateRandom) == 1 })
		if d.m.Inside(faulty.GenerateRandom) != 1 || d.m.Inside(faulty.Any) != 1 {
			t.Error("it is not counted as inside")
		}
		rule.Heal()
		all.Wait()
		if d.m.Hung(faulty.GenerateRandom) != 0 || d.m.Inside(faulty.Any) != 0 {
			t.Error("it is still inside")
		}
	})
	t.Run("many one after the other", func(t *testing.T) {
		for range 2000 {
			d.m.Fail(faulty.GenerateRandom, 1, pkcs11.CKR_DEVICE_MEMORY)
			d.want(random(), pkcs11.CKR_DEVICE_MEMORY)
		}
	})
}

func TestWrongSignatures(t *testing.T) {
	d := newDevice(t)
	s := d.session()
	a := d.private(s, "a")
	for _, w := range []faulty.Wrong{
		faulty.ByOtherKey, faulty.Corrupted, faulty.Truncated, faulty.Zeroed, faulty.TooLong, faulty.Repeated, faulty.Empty,
	} {
		signature, err := d.sign(s, a)
		if err != nil || !d.verifies(d.keys[0].Public, signature) {
			t.Fatalf("before: %v", err)
		}
		rule := d.m.WrongSignature(1, w)
		signature, err = d.sign(s, a)
		if err == nil && d.verifies(d.keys[0].Public, signature) {
			t.Errorf("%d: it is right", w)
		}
		if w == faulty.ByOtherKey && !d.verifies(d.keys[1].Public, signature) {
			t.Error("it is not the other key's")
		}
		if rule.Fired() != 1 {
			t.Errorf("%d: it happened %d times", w, rule.Fired())
		}
	}
}

func TestAttributes(t *testing.T) {
	d := newDevice(t)
	s := d.session()
	private, public := d.private(s, "a"), d.find(s, pkcs11.CKO_PUBLIC_KEY, "a")[0]
	value := func(o pkcs11.ObjectHandle, attribute uint) []byte {
		got, err := d.p.GetAttributeValue(s, o, []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, nil)})
		if err != nil {
			d.want(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID)
			return nil
		}
		return got[0].Value
	}
	for _, test := range []struct {
		name      string
		object    pkcs11.ObjectHandle
		attribute uint
		rule      func() *faulty.Rule
		want      func(before []byte) []byte
	}{
		{"a flag", private, pkcs11.CKA_SENSITIVE, func() *faulty.Rule { return d.m.Lie(pkcs11.CKA_SENSITIVE) },
			func([]byte) []byte { return []byte{0} }},
		{"a value", private, pkcs11.CKA_KEY_TYPE, func() *faulty.Rule { return d.m.Attribute(pkcs11.CKA_KEY_TYPE, faulty.Ulong(99)) },
			func([]byte) []byte { return faulty.Ulong(99) }},
		{"a longer value", private, pkcs11.CKA_LABEL, func() *faulty.Rule { return d.m.Attribute(pkcs11.CKA_LABEL, []byte("another")) },
			func([]byte) []byte { return []byte("another") }},
		{"unknown", private, pkcs11.CKA_LOCAL, func() *faulty.Rule { return d.m.NoAttribute(pkcs11.CKA_LOCAL) },
			func([]byte) []byte { return nil }},
		{"a raw point", public, pkcs11.CKA_EC_POINT, func() *faulty.Rule { return d.m.Point(faulty.Raw) },
			func(b []byte) []byte { return b[2:] }},
		{"a point as OCTET STRING", public, pkcs11.CKA_EC_POINT, func() *faulty.Rule { return d.m.Point(faulty.OctetString) },
			func(b []byte) []byte { return b }},
		{"a point as BIT STRING", public, pkcs11.CKA_EC_POINT, func() *faulty.Rule { return d.m.Point(faulty.BitString) },
			func(b []byte) []byte { return append([]byte{3, 66, 0}, b[2:]...) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := value(test.object, test.attribute)
			rule := test.rule()
			if got := value(test.object, test.attribute); !bytes.Equal(got, test.want(before)) {
				t.Errorf("got %x, was %x", got, before)
			}
			rule.Heal()
			if got := value(test.object, test.attribute); !bytes.Equal(got, before) {
				t.Errorf("afterwards: got %x, was %x", got, before)
			}
		})
	}
	d.m.FindNothing()
	if got := d.find(s, pkcs11.CKO_PRIVATE_KEY, "a"); len(got) != 0 {
		t.Errorf("found %d", len(got))
	}
}

// A token that is lost and comes back, in both ways.
func TestLoss(t *testing.T) {
	for how, test := range map[faulty.Loss]struct{ info, open, find, sign uint }{
		faulty.Silently: {0, 0, 0, pkcs11.CKR_OBJECT_HANDLE_INVALID},
		faulty.Removed: {pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_DEVICE_REMOVED,
			pkcs11.CKR_DEVICE_REMOVED},
	} {
		d := newDevice(t)
		slot, s := d.slot(), d.session()
		a := d.private(s, "a")
		gone := func() {
			t.Helper()
			_, err := d.p.GetSessionInfo(s)
			d.want(err, test.info)
			_, err = d.p.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
			d.want(err, test.open)
			err = d.p.FindObjectsInit(s, nil)
			d.want(err, test.find)
			if err == nil {
				if found, _, err := d.p.FindObjects(s, 10); len(found) != 0 || err != nil {
					t.Errorf("found %d, %v", len(found), err)
				}
				d.must(d.p.FindObjectsFinal(s))
			}
			_, err = d.sign(s, a)
			d.want(err, test.sign)
		}
		d.m.Lose(how)
		gone()
		d.m.Restore()
		gone() // without a new C_Initialize it does not come back
		d.m.Lose(how)
		d.again()
		if slots, err := d.p.GetSlotList(true); len(slots) != 0 || err != nil {
			t.Errorf("slots while it is gone: %v, %v", slots, err)
		}
		_, err := d.p.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
		d.want(err, pkcs11.CKR_TOKEN_NOT_PRESENT)
		d.m.Restore()
		d.again()
		s = d.session()
		if signature, err := d.sign(s, d.private(s, "a")); err != nil || !d.verifies(d.keys[0].Public, signature) {
			t.Errorf("after it came back: %v", err)
		}
	}
}

func TestOtherContent(t *testing.T) {
	d := newDevice(t)
	blank, clone, another := d.m.Blank(t), d.m.Clone(t), d.m.Another(t)
	if another.Config.Serial == blank.Config.Serial || another.Config.TokenLabel != blank.Config.TokenLabel {
		t.Error("another token has another serial number")
	}
	store := keystore.New(keystoretest.Open(t, blank.Config), keystore.Options{})
	other := keystoretest.Generate(t, store, "a", keystore.ECDSAP256)
	d.must(store.Close())
	for _, step := range []struct {
		content *faulty.Content
		public  crypto.PublicKey
	}{{blank, other.Public}, {clone, d.keys[0].Public}} {
		d.m.Insert(t, step.content)
		d.m.Restore()
		d.again()
		s := d.session()
		if signature, err := d.sign(s, d.private(s, "a")); err != nil || !d.verifies(step.public, signature) {
			t.Errorf("not the key of the content: %v", err)
		}
	}
	first := d.m.Insert(t, another)
	d.m.Restore()
	d.again()
	s := d.session()
	if found := d.find(s, pkcs11.CKO_PRIVATE_KEY, "a"); len(found) != 0 {
		t.Error("the other token has the key")
	}
	d.m.Insert(t, first)
	d.m.Restore()
	d.again()
	s = d.session()
	d.private(s, "a")
}

func TestDrops(t *testing.T) {
	d := newDevice(t)
	s := d.session()
	d.private(s, "a")
	d.m.DropLogin()
	if found := d.find(s, pkcs11.CKO_PRIVATE_KEY, "a"); len(found) != 0 {
		t.Error("still logged in")
	}
	d.must(d.p.Login(s, pkcs11.CKU_USER, keystoretest.PIN))
	d.private(s, "a")
	d.m.DropSessions()
	_, err := d.p.GetSessionInfo(s)
	d.want(err, pkcs11.CKR_SESSION_HANDLE_INVALID)
	s = d.session()
	d.private(s, "a")
}

func TestNumbers(t *testing.T) {
	d := newDevice(t)
	old := d.slot()
	d.m.MoveSlots(1000)
	if d.slot() != old {
		t.Error("slots move at C_Initialize only")
	}
	d.m.Number(faulty.Fresh)
	d.again()
	if got := d.slot(); got != old+1000 {
		t.Errorf("slot %d, was %d", got, old)
	}
	_, err := d.p.OpenSession(old-1000, pkcs11.CKF_SERIAL_SESSION)
	d.want(err, pkcs11.CKR_SLOT_ID_INVALID)
	s := d.session()
	a := d.private(s, "a")
	if info, err := d.p.GetSessionInfo(s); err != nil || info.SlotID != old+1000 {
		t.Errorf("%+v, %v", info, err)
	}
	d.again()
	_, err = d.p.GetSessionInfo(s)
	d.want(err, pkcs11.CKR_SESSION_HANDLE_INVALID)
	s2 := d.session()
	_, err = d.sign(s2, a)
	d.want(err, pkcs11.CKR_KEY_HANDLE_INVALID)
	if d.private(s2, "a") == a || s2 == s {
		t.Error("a number came again")
	}
	if v := d.m.Violations(); len(v) != 2 || d.m.Stale() != 2 {
		t.Errorf("violations %q", v)
	}

	d.m.Number(faulty.OtherKey)
	d.again()
	s = d.session()
	for i, label := range []string{"a", "b"} {
		key := d.private(s, label)
		if _, err := d.sign(s, key); err != nil {
			t.Fatal(err)
		}
		d.again()
		s = d.session()
		signature, err := d.sign(s, key)
		if err != nil || !d.verifies(d.keys[1-i].Public, signature) {
			t.Errorf("a stale handle of %q: not signed by the other key: %v", label, err)
		}
	}
	if v := d.m.Violations(); len(v) != 2 {
		t.Errorf("violations %q", v)
	}
}

func TestLimits(t *testing.T) {
	d := newDevice(t)
	d.m.MaxSessions(2)
	d.m.Flags(pkcs11.CKF_USER_PIN_FINAL_TRY, pkcs11.CKF_RNG)
	info, err := d.p.GetTokenInfo(d.slot())
	if err != nil || info.MaxSessionCount != 2 || info.Flags&pkcs11.CKF_USER_PIN_FINAL_TRY == 0 || info.Flags&pkcs11.CKF_RNG != 0 {
		t.Errorf("%+v, %v", info, err)
	}
	d.session()
	s := d.session()
	_, err = d.p.OpenSession(d.slot(), pkcs11.CKF_SERIAL_SESSION)
	d.want(err, pkcs11.CKR_SESSION_COUNT)
	if d.m.Sessions() != 2 {
		t.Errorf("%d sessions", d.m.Sessions())
	}
	d.must(d.p.CloseSession(s))
	d.session()
}

func TestMisuse(t *testing.T) {
	d := newDevice(t)
	is := func(parts ...string) {
		t.Helper()
		err := d.m.Check()
		got := d.m.Violations()
		if err == nil || len(got) != 1 || d.m.Check() != nil {
			t.Fatalf("violations %q", got)
		}
		for _, part := range parts {
			if !strings.Contains(got[0], part) || !strings.Contains(err.Error(), part) {
				t.Errorf("%q does not say %q", got[0], part)
			}
		}
	}
	s := d.session()
	d.m.Hang(faulty.GenerateRandom, 1, 0)
	var all sync.WaitGroup
	all.Go(func() { d.p.GenerateRandom(s, 1) })
	until(t, "a call", func() bool { return d.m.Hung(faulty.GenerateRandom) == 1 })
	_, err := d.p.GetSessionInfo(s)
	d.want(err, pkcs11.CKR_FUNCTION_FAILED)
	is("C_GenerateRandom and C_GetSessionInfo in session")
	d.want(d.p.Finalize(), pkcs11.CKR_FUNCTION_FAILED)
	is("C_Finalize while other calls are running")
	d.m.Heal()
	all.Wait()
	if d.m.Most() != 2 {
		t.Errorf("%d threads at once", d.m.Most())
	}

	d.m.Hang(faulty.Finalize, 1, 0)
	all.Go(func() { d.must(d.p.Finalize()) })
	until(t, "C_Finalize", func() bool { return d.m.Hung(faulty.Finalize) == 1 })
	_, err = d.p.GetInfo()
	d.want(err, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)
	is("C_GetInfo during C_Finalize")
	d.m.Heal()
	all.Wait()
	_, err = d.p.GetInfo()
	d.want(err, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)
	is("C_GetInfo before C_Initialize")
	d.must(d.p.Initialize())

	s, err = d.p.OpenSession(d.slot(), pkcs11.CKF_SERIAL_SESSION)
	d.must(err)
	d.want(d.p.Login(s, pkcs11.CKU_USER, "wrong one"), pkcs11.CKR_PIN_INCORRECT)
	d.want(d.p.Login(s, pkcs11.CKU_USER, "another wrong one"), pkcs11.CKR_PIN_INCORRECT)
	if err := d.m.Check(); err != nil {
		t.Error(err)
	}
	d.want(d.p.Login(s, pkcs11.CKU_USER, "wrong one"), pkcs11.CKR_PIN_INCORRECT)
	is("C_Login with a PIN that was refused before")
	d.m.Fail(faulty.Login, 1, pkcs11.CKR_PIN_INCORRECT)
	d.want(d.p.Login(s, pkcs11.CKU_USER, keystoretest.PIN), pkcs11.CKR_PIN_INCORRECT)
	d.want(d.p.Login(s, pkcs11.CKU_USER, keystoretest.PIN), pkcs11.CKR_PIN_INCORRECT)
	is("C_Login with a PIN that was refused before")
	d.m.ForgetPINs()
	d.must(d.p.Login(s, pkcs11.CKU_USER, keystoretest.PIN))
}

// Two modules in one process have nothing to do with each other.
func TestTwoModules(t *testing.T) {
	first, second := newDevice(t), newDevice(t)
	s1, s2 := first.session(), second.session()
	first.m.Lose(faulty.Removed)
	_, err := first.p.GetSessionInfo(s1)
	first.want(err, pkcs11.CKR_DEVICE_REMOVED)
	signature, err := second.sign(s2, second.private(s2, "b"))
	if err != nil || !second.verifies(second.keys[1].Public, signature) {
		t.Errorf("the other module: %v", err)
	}
}

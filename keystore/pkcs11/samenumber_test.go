package pkcs11

import (
	"errors"
	"testing"

	"github.com/signetd/signet/keystore"
)

// The tokens of some modules all have one serial number. The label tells them apart, also after the module was set up anew.
func TestTokensOfOneSerialNumber(t *testing.T) {
	tokens := []TokenInfo{
		{Label: "a", Serial: "123", Slot: 1, Initialized: true}, {Label: "b", Serial: "123", Slot: 2, Initialized: true},
	}
	if tokens[0].id() == tokens[1].id() {
		t.Error("two tokens have one identity")
	}
	for _, want := range tokens {
		token := &Token{serial: want.Serial, config: Config{TokenLabel: want.Label}}
		if got, err := token.recognise(tokens); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", want.Label, got, err)
		}
	}
	unnamed := &Token{serial: "123"}
	if got, err := unnamed.recognise(tokens); !errors.Is(err, keystore.ErrInvalid) {
		t.Errorf("one of two: got %+v, %v", got, err)
	}
	renamed := &Token{serial: "123", config: Config{TokenLabel: "c"}}
	if got, err := renamed.recognise(tokens); err == nil {
		t.Errorf("a token of another name: got %+v", got)
	}
	m := module{pinKey: [32]byte{1}}
	if pin := keystore.NewSecret("1234"); m.macPIN(tokens[0].id(), pin) == m.macPIN(tokens[1].id(), pin) {
		t.Error("a PIN that one token refused counts as refused by the other")
	}
}

package pkcs11_test

import (
	"testing"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
)

func TestSoftHSMKeepsTheContract(t *testing.T) {
	for _, copies := range []bool{false, true} {
		name := map[bool]string{false: "objects of the token", true: "copies in the session"}[copies]
		t.Run(name, func(t *testing.T) {
			keystoretest.TestToken(t, func(t *testing.T) keystore.Token {
				c := keystoretest.Config(t)
				c.SessionCopies = copies
				return keystoretest.Open(t, c)
			}, keystore.Algorithms()...)
		})
	}
}

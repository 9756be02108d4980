package keystoretest_test

import (
	"testing"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/keystoretest"
)

func TestFakeKeepsTheContract(t *testing.T) {
	keystoretest.TestToken(t, func(t *testing.T) keystore.Token { return keystoretest.NewFake() }, keystore.Algorithms()...)
}

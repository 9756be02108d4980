package isolate_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/signetd/signet/keystore"
	"github.com/signetd/signet/keystore/isolate"
	"github.com/signetd/signet/keystore/isolate/worker"
	"github.com/signetd/signet/keystore/keystoretest"
	"github.com/signetd/signet/keystore/pkcs11"
)

// parentCommand makes the test program a service with worker processes that waits to be killed.
const parentCommand = "parent-of-workers"

func parent() {
	var c pkcs11.Config
	if err := json.Unmarshal([]byte(os.Args[2]), &parentSettings{&c.Module, &c.SoftHSMConf, &c.TokenLabel}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	c.PIN = keystore.PINFixed(keystore.NewSecret(keystoretest.PIN))
	if _, err := worker.Open(context.Background(), c, isolate.Config{Command: isolate.Self(workerCommand), Processes: 2}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ready")
	select {}
}

// parentSettings are what the parent needs of a configuration.
type parentSettings struct{ Module, SoftHSMConf, TokenLabel *string }

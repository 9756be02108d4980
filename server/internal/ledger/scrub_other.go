//go:build !linux

package ledger

import "os"

// directFlag is zero where reads cannot go past the kernel's cache in a way that this program knows.
const directFlag = 0

func forgetCached(*os.File, int64, int64) {}

package pkcs11

import "time"

// SetCloseWait shortens how long Close waits for a call that hangs.
func (t *Token) SetCloseWait(d time.Duration) { t.closeWait = d }

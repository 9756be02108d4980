package identity

// signerActs are the acts about signers that take two administrators.
func (d *Directory) signerActs() []ActKind { return nil }

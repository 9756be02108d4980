package identity

// confirm confirms a proposal in a session of another administrator.
func (f *fixture) confirm(by Caller, p *Proposal, userName string, password Secret) Confirmation {
	f.t.Helper()
	c, err := f.d.Confirm(f.t.Context(), by, p.ID, p.Digest[:], Proof{UserName: userName, Password: password})
	if err != nil {
		f.t.Fatal(err)
	}
	return c
}

package conform

// clauses are those of 21 CFR Part 11 that ask something of a system, in our own words, with what stays with its owner.
var clauses = []struct{ clause, asks, remark string }{
	{"11.3", "The system is a closed or an open one, and says which.", "Which of the two it is, is yours to declare."},
	{"11.10(a)", "Validated; records that were altered are discernible.", "Validation of your own use stays with you: this report is one piece of it."},
	{"11.10(b)", "Copies that people can read, and electronic ones.", ""},
	{"11.10(c)", "Records are protected and can be retrieved for as long as they must be kept.", "Where backups are kept, and for how long, is yours."},
	{"11.10(d)", "Access is limited to authorised individuals.", ""},
	{"11.10(e)", "A computer-generated, time-stamped audit trail that hides nothing.", ""},
	{"11.10(f)", "Permitted sequences of steps are enforced.", ""},
	{"11.10(g)", "Authority checks: only who may can sign, change and read.", ""},
	{"11.10(h)", "Device checks: the source of an input is admitted and known.", "Which networks are admitted is yours to set."},
	{"11.10(i)", "People are trained for what they do.", "Training itself is yours; attestations are recorded here."},
	{"11.10(j)", "People are held accountable for what is done under their signatures.", "The written policy is yours."},
	{"11.10(k)", "Documentation is controlled and its changes are known.", ""},
	{"11.30", "Open systems: records are protected on their way.", ""},
	{"11.50", "A signature shows the printed name, the date and time, and its meaning.", ""},
	{"11.70", "Signatures cannot be excised, copied or transferred.", ""},
	{"11.100(a)", "A signature is one person's, and never reassigned.", ""},
	{"11.100(b)", "Identities are verified before a signature is established.", "How you verify identities is yours; that it was done is recorded here."},
	{"11.200(a)(1)", "Two distinct components, all of them at each signature.", ""},
	{"11.300(a)", "Each combination of identification and password is unique.", ""},
	{"11.300(b)", "Passwords are checked, and rights reviewed from time to time.", "The reviews are yours to make: signet review start."},
	{"11.300(d)", "Unauthorised attempts are stopped, and reported at once.", "Who reads the alerts is yours to set."},
	{"11.300(e)", "Devices that make credentials are tested, at first and from time to time.", ""},
}

package conformance

// The requirements, by name.
const (
	needModule      = "module"
	needAlgorithms  = "algorithms"
	needSignatures  = "signatures"
	needProtection  = "protection"
	needNames       = "names"
	needSessions    = "sessions"
	needLogin       = "login"
	needConcurrency = "concurrency"
	needRecovery    = "recovery"
	needRandom      = "random"
	needRemoval     = "removal"
	needSignet      = "signet"
)

// requirements are all of them, in the order of a report.
var requirements = []Requirement{
	{Name: needModule, Needs: "The module loads, and the token can be found and says what it is"},
	{Name: needAlgorithms, Needs: "Keys of Signet's algorithms can be made in the token; ECDSA P-256 at least"},
	{Name: needSignatures, Needs: "Each signature verifies, and nothing is signed wrongly without an error"},
	{Name: needProtection, Needs: "A private key is made in the token, cannot leave it, and can do nothing but sign"},
	{Name: needNames, Needs: "Keys keep their names, and are found by them"},
	{Name: needSessions, Needs: "Several sessions are open at the same time and share the login"},
	{Name: needLogin, Needs: "Private keys need the PIN, which a program can give"},
	{Name: needConcurrency, Needs: "Keys can be made and found while others sign"},
	{Name: needRecovery, Needs: "The module can be set up anew without a restart, and the keys are still there"},
	{Name: needRandom, Needs: "The token's random numbers are not constant"},
	{Name: needRemoval, Needs: "A destroyed key is gone"},
	{Name: needSignet, Needs: "Signet itself makes, finds, checks and signs with keys in this token"},
}

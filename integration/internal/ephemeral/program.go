package ephemeral

// program.go describes a server that is run from its own binaries. What runs it is in program_unix.go.

// Program is a server in shell commands, which see $dir, a new folder of their own.
type Program struct {
	Name  string   // names the folder, and the package in errors
	From  string   // where the binaries are, for errors
	Start string   // sets the server up and returns when it answers; $dir/out and $dir/log are shown when it fails
	Stop  string   // ends it; prints why where it had ended before
	Env   []string // what the commands need, as NAME=value
	Hide  string   // the prefix of variables that the server's programs would obey
	Users []string // who runs it where the tests run as root, which servers refuse; the first that there is
}

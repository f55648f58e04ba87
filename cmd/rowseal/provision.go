// provision.go owns the verb provision: what a key should be, what is there, and the steps from one to the other.

package main

type provisionCommand struct {
	AWS provisionAWS `cmd:"" name:"aws" help:"Make a key of AWS KMS: symmetric, with an alias, yearly rotation, a policy, and no deletion."`
}

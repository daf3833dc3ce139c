// gopeer copies an image between two OCI layouts, and encrypts or decrypts it on the way, with the
// libraries that skopeo, buildah and podman are made of.
//
//	gopeer encrypt|decrypt SOURCE TARGET KEY...
//
// It also adds recipients to an encrypted layer: see add.go.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/oci/layout"
	"github.com/containers/image/v5/signature"
	"github.com/containers/ocicrypt/config"
	"github.com/containers/ocicrypt/helpers"
)

func run(mode, from, to string, keys []string) error {
	source, err := layout.ParseReference(from)
	if err != nil {
		return err
	}
	target, err := layout.ParseReference(to)
	if err != nil {
		return err
	}
	policy, err := signature.NewPolicyContext(&signature.Policy{
		Default: signature.PolicyRequirements{signature.NewPRInsecureAcceptAnything()},
	})
	if err != nil {
		return err
	}
	recipients, identities := keys, []string{}
	if mode == "decrypt" {
		recipients, identities = identities, recipients
	}
	made, err := helpers.CreateCryptoConfig(recipients, identities)
	if err != nil {
		return err
	}
	crypto := config.CombineCryptoConfigs([]config.CryptoConfig{made})
	options := &copy.Options{}
	if mode == "encrypt" {
		options.OciEncryptLayers = &[]int{}
		options.OciEncryptConfig = crypto.EncryptConfig
	} else {
		options.OciDecryptConfig = crypto.DecryptConfig
	}
	_, err = copy.Image(context.Background(), policy, target, source, options)
	return err
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "add" {
		if err := add(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) < 5 || (os.Args[1] != "encrypt" && os.Args[1] != "decrypt") {
		fmt.Fprintln(os.Stderr, "usage: gopeer encrypt|decrypt SOURCE TARGET KEY...")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/containers/ocicrypt"
	"github.com/containers/ocicrypt/config"
	"github.com/containers/ocicrypt/helpers"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// add reads the descriptor of an encrypted layer from standard input and writes the annotations that
// it has when further recipients can open it, as ctr-enc does:
//
//	gopeer add RECIPIENT... -- KEY...
func add(arguments []string) error {
	cut := len(arguments)
	for place, word := range arguments {
		if word == "--" {
			cut = place
			break
		}
	}
	if cut == len(arguments) {
		return fmt.Errorf("no -- between recipients and keys")
	}
	recipients, err := helpers.CreateCryptoConfig(arguments[:cut], nil)
	if err != nil {
		return err
	}
	keys, err := helpers.CreateCryptoConfig(nil, arguments[cut+1:])
	if err != nil {
		return err
	}
	crypto := config.CombineCryptoConfigs([]config.CryptoConfig{recipients, keys})
	crypto.EncryptConfig.AttachDecryptConfig(crypto.DecryptConfig)
	var layer ocispec.Descriptor
	if err := json.NewDecoder(os.Stdin).Decode(&layer); err != nil {
		return err
	}
	_, finish, err := ocicrypt.EncryptLayer(crypto.EncryptConfig, nil, layer)
	if err != nil {
		return err
	}
	annotations, err := finish()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(annotations)
}

// Containerd's stream processor by way of imgcrypt's own library: what Boltseal's is measured
// beside. Their program is in a module that cannot be installed by its name; this does its steps.
package main

import (
	"fmt"
	"io"
	"os"

	"github.com/containerd/containerd/v2/pkg/protobuf/proto"
	"github.com/containerd/containerd/v2/pkg/protobuf/types"
	"github.com/containerd/imgcrypt/v2"
	"github.com/containerd/imgcrypt/v2/images/encryption"
	"github.com/containerd/typeurl/v2"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	raw, err := io.ReadAll(os.NewFile(3, "payload"))
	if err != nil {
		return err
	}
	var envelope types.Any
	if err := proto.Unmarshal(raw, &envelope); err != nil {
		return err
	}
	value, err := typeurl.UnmarshalAny(&envelope)
	if err != nil {
		return err
	}
	payload, ok := value.(*imgcrypt.Payload)
	if !ok {
		return fmt.Errorf("the payload is a %T", value)
	}
	_, plain, _, err := encryption.DecryptLayer(
		&payload.DecryptConfig, os.Stdin, payload.Descriptor, false)
	if err != nil {
		return err
	}
	for {
		// as their program copies: the size is seen in its speed
		if _, err := io.CopyN(os.Stdout, plain, 10*1024); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}

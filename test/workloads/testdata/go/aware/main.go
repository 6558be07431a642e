// Command aware moves itself about, and says where it is.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"mosix/self"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	where := func() {
		node, home, err := self.Where(ctx)
		fmt.Println(node, home, err)
	}
	where()
	for _, to := range os.Args[1:] {
		err := self.Move(ctx, to)
		fmt.Println("to", to, err == nil, errors.Is(err, self.ErrStays), errors.Is(err, self.ErrNoAgent))
		where()
	}
	fmt.Println("stay", self.Stay(ctx))
	fmt.Println("go", self.Go(ctx))
}

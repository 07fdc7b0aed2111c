// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract PaymentEscrowAddBond is Network {
    function test_addBond__nothing__reverts() public {
        vm.expectRevert(IPaymentEscrow.ZeroAmount.selector);
        escrow.addBond(gateway, 0);
    }
}

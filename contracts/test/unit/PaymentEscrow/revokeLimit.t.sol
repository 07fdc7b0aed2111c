// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract PaymentEscrowRevokeLimit is Network {
    function test_revokeLimit__holds_for_a_thaw() public {
        _fundPayer(10 ether);
        vm.startPrank(payer);
        escrow.revokeLimit(gateway);
        vm.expectRevert(abi.encodeWithSelector(IPaymentEscrow.NoLimit.selector, payer, gateway));
        escrow.revokeLimit(gateway);
        vm.stopPrank();
        skip(599);
        (uint256 fromPayer,) = escrow.available(payer, gateway, owner, modelId);
        assertEq(fromPayer, 10 ether);
        skip(1);
        (fromPayer,) = escrow.available(payer, gateway, owner, modelId);
        assertEq(fromPayer, 0);
    }

    function test_revokeLimit__none__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IPaymentEscrow.NoLimit.selector, address(this), gateway));
        escrow.revokeLimit(gateway);
    }
}

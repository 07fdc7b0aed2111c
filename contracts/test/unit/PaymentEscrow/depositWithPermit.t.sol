// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract PaymentEscrowDepositWithPermit is Network {
    function test_depositWithPermit__in_one_call__also_when_front_run() public {
        (address holder, uint256 key) = makeAddrAndKey("holder");
        _fund(holder, 2 ether);
        (uint8 v, bytes32 r, bytes32 s) = _permit(key, holder, 1 ether);
        vm.prank(holder);
        escrow.depositWithPermit(1 ether, block.timestamp, v, r, s);
        (v, r, s) = _permit(key, holder, 1 ether);
        token.permit(holder, address(escrow), 1 ether, block.timestamp, v, r, s);
        vm.prank(holder);
        escrow.depositWithPermit(1 ether, block.timestamp, v, r, s);
        assertEq(escrow.depositOf(holder).balance, 2 ether);
    }

    function test_depositWithPermit__wrong_signature__reverts() public {
        _fund(payer, 1 ether);
        vm.prank(payer);
        vm.expectRevert();
        escrow.depositWithPermit(1 ether, block.timestamp, 27, "r", "s");
    }
}

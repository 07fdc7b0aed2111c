// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract PaymentEscrowOnboard is Network {
    function test_onboard__deposit_and_limit_in_one_call() public {
        (address holder, uint256 key) = makeAddrAndKey("holder");
        _fund(holder, 10 ether);
        (uint8 v, bytes32 r, bytes32 s) = _permit(key, holder, 10 ether);
        uint64 expiry = uint64(block.timestamp + 1 days);
        IPaymentEscrow.Onboarding memory o =
            IPaymentEscrow.Onboarding(10 ether, gateway, 6 ether, 1 hours, expiry, new bytes32[](0), block.timestamp, v, r, s);
        vm.prank(holder);
        escrow.onboard(o);
        assertEq(escrow.depositOf(holder).balance, 4 ether);
        assertEq(escrow.limitOf(holder, gateway).reserved, 6 ether);
        _assertLedgers();
        // Nothing to deposit: a limit alone.
        (v, r, s) = _permit(key, holder, 0);
        o = IPaymentEscrow.Onboarding(0, gateway, 8 ether, 1 hours, expiry, new bytes32[](0), block.timestamp, v, r, s);
        vm.prank(holder);
        escrow.onboard(o);
        assertEq(escrow.limitOf(holder, gateway).reserved, 8 ether);
        _assertLedgers();
    }
}

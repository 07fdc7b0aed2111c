// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract SettlementClaimVerifierPay is Network {
    function _earn() internal returns (uint64 epoch) {
        _joinAll();
        uint64 batchId = _anchor(_receipt(1, 10 ether));
        _redeem(10 ether);
        skip(51);
        _release(batchId);
        epoch = verifiers.currentEpoch();
    }

    function _post(uint256 judge, uint64 epoch) internal {
        vm.prank(judges[judge]);
        verifiers.postDuties(epoch, judge, "root", 1);
    }

    function test_claimVerifierPay__equal_shares__for_those_on_duty() public {
        uint64 epoch = _earn();
        skip(10);
        _post(0, epoch);
        _post(1, epoch);
        vm.prank(judges[0]);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.EpochOpen.selector, epoch));
        settlement.claimVerifierPay(epoch);
        skip(40);
        vm.prank(judges[0]);
        assertEq(settlement.claimVerifierPay(epoch), 0.25 ether);
        vm.prank(judges[1]);
        settlement.claimVerifierPay(epoch);
        vm.prank(judges[0]);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.AlreadyClaimed.selector, judges[0], epoch));
        settlement.claimVerifierPay(epoch);
        vm.prank(judges[2]);
        vm.expectRevert(abi.encodeWithSelector(ISettlement.NotOnDuty.selector, judges[2], epoch));
        settlement.claimVerifierPay(epoch);
        assertEq(token.balanceOf(judges[0]), 0.25 ether);
        _assertLedgers();
    }
}

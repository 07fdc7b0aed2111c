// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract SettlementRedeem is Network {
    function test_redeem__cumulative__takes_the_difference() public {
        _joinAll();
        assertEq(uint8(_redeem(3 ether)), uint8(ISettlement.Result.Redeemed));
        assertEq(uint8(_redeem(3 ether)), uint8(ISettlement.Result.Stale));
        assertEq(uint8(_redeem(2 ether)), uint8(ISettlement.Result.Stale));
        assertEq(uint8(_redeem(5 ether)), uint8(ISettlement.Result.Redeemed));
        assertEq(settlement.redeemedOf(payer, gateway, owner, modelId), 5 ether);
        assertEq(settlement.heldOf(owner, modelId), 5 ether);
        assertEq(escrow.limitOf(payer, gateway).reserved, 95 ether);
    }

    function testFuzz_redeem__never_more_than_signed_or_funded(uint128[4] memory amounts) public {
        _joinAll();
        uint128 highest;
        for (uint256 i; i < 4; ++i) {
            uint128 cumulative = uint128(bound(amounts[i], 0, 300 ether));
            if (cumulative > highest) highest = cumulative;
            _redeem(cumulative);
        }
        uint256 redeemed = settlement.redeemedOf(payer, gateway, owner, modelId);
        assertEq(redeemed, highest < 150 ether ? highest : 150 ether);
        assertEq(settlement.heldOf(owner, modelId), redeemed);
        _assertLedgers();
    }

    function test_redeem__batch_with_bad_ones__does_the_rest() public {
        _joinAll();
        ISettlement.Voucher[] memory v = new ISettlement.Voucher[](7);
        bytes[] memory s = new bytes[](7);
        for (uint256 i; i < 7; ++i) {
            v[i] = ISettlement.Voucher(payer, gateway, owner, modelId, uint128(1 ether * (i + 1)));
        }
        v[1].modelId = "unknown";
        v[5].payer = makeAddr("poor");
        v[5].provider = makeAddr("without cover");
        v[6].cumulative = type(uint128).max;
        for (uint256 i; i < 7; ++i) {
            s[i] = _sign(gatewayKey, settlement.hashVoucher(v[i]));
        }
        s[2] = _sign(operatorKey, settlement.hashVoucher(v[2]));
        s[3] = hex"00";
        (ISettlement.Result[] memory expected,) = settlement.preview(v, s);
        ISettlement.Result[] memory got = settlement.redeem(v, s);
        ISettlement.Result[7] memory results = [
            ISettlement.Result.Redeemed,
            ISettlement.Result.UnknownModel,
            ISettlement.Result.BadSignature,
            ISettlement.Result.BadSignature,
            ISettlement.Result.Redeemed,
            ISettlement.Result.Unfunded,
            ISettlement.Result.Unfunded
        ];
        for (uint256 i; i < 7; ++i) {
            assertEq(uint8(got[i]), uint8(results[i]));
            assertEq(uint8(expected[i]), uint8(results[i]));
        }
        assertEq(settlement.redeemedOf(payer, gateway, owner, modelId), 5 ether);
    }

    function test_redeem__two_of_one_stream_in_a_batch__never_count_twice() public {
        _joinAll();
        ISettlement.Voucher[] memory v = new ISettlement.Voucher[](2);
        bytes[] memory s = new bytes[](2);
        v[0] = ISettlement.Voucher(payer, gateway, owner, modelId, 140 ether);
        v[1] = ISettlement.Voucher(payer, gateway, owner, modelId, 200 ether);
        s[0] = _sign(gatewayKey, settlement.hashVoucher(v[0]));
        s[1] = _sign(gatewayKey, settlement.hashVoucher(v[1]));
        ISettlement.Result[] memory got = settlement.redeem(v, s);
        assertEq(uint8(got[0]), uint8(ISettlement.Result.Redeemed));
        assertEq(uint8(got[1]), uint8(ISettlement.Result.Partial));
        assertEq(settlement.redeemedOf(payer, gateway, owner, modelId), 150 ether);
        assertEq(settlement.heldOf(owner, modelId), 150 ether);
    }

    function test_redeem__partial__takes_the_rest_when_there_is_money() public {
        _joinAll();
        assertEq(uint8(_redeem(160 ether)), uint8(ISettlement.Result.Partial));
        assertEq(uint8(_redeem(160 ether)), uint8(ISettlement.Result.Unfunded));
        skip(1 days);
        token.approve(address(escrow), 20 ether);
        escrow.deposit(payer, 20 ether);
        assertEq(uint8(_redeem(160 ether)), uint8(ISettlement.Result.Redeemed));
        assertEq(settlement.redeemedOf(payer, gateway, owner, modelId), 160 ether);
    }

    function test_redeem__on_another_chain__is_refused() public {
        _joinAll();
        (ISettlement.Voucher[] memory v, bytes[] memory s) = _voucher(1 ether);
        vm.chainId(999);
        assertEq(uint8(settlement.redeem(v, s)[0]), uint8(ISettlement.Result.BadSignature));
    }

    function test_redeem__lengths_differ__reverts() public {
        vm.expectRevert(ISettlement.LengthMismatch.selector);
        settlement.redeem(new ISettlement.Voucher[](1), new bytes[](0));
        vm.expectRevert(ISettlement.LengthMismatch.selector);
        settlement.preview(new ISettlement.Voucher[](1), new bytes[](0));
    }

    function test_preview__partial__says_how_much() public {
        _joinAll();
        (ISettlement.Voucher[] memory v, bytes[] memory s) = _voucher(160 ether);
        (ISettlement.Result[] memory results, uint128[] memory deltas) = settlement.preview(v, s);
        assertEq(uint8(results[0]), uint8(ISettlement.Result.Partial));
        assertEq(deltas[0], 150 ether);
    }
}
